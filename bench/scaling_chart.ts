/** The picture of bench/scaling.ts: time along each axis, and what its FLOPs alone would take. */

import { LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Curve, Result } from "./scaling.ts";
import { caveat, type Machine } from "./support.ts";

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

/** Pixels: a panel, from one panel to the next, and the first panel's corner. */
const PANEL = { width: 330, height: 130 };
const STEP = { x: 424, y: 208 };
const FIRST = { x: 76, y: 132 };
const TIME = { name: "measured", color: "#0b62a4" };
const FLOPS = { name: "if time followed FLOPs", color: "#d1603d" };
const GREY = { fontSize: 12, color: "#57606a" };
const DASHES = "path://M0,0H6V2H0Z M10,0H16V2H10Z M20,0H26V2H20Z";

/** A row for each axis, a column for each kind of step; both scales logarithmic, as SVG text. */
export function chart(results: readonly Result[], here: Machine): string {
  const rows = results[0]!.curves.length;
  const size = {
    width: FIRST.x + results.length * STEP.x - 48,
    height: FIRST.y - 44 + rows * STEP.y,
  };
  const panels = results.flatMap((result, column) =>
    result.curves.map((curve, row) => panel(result, curve, { column, row })),
  );
  const canvas = init(null, null, { renderer: "svg", ssr: true, ...size });
  canvas.setOption({
    animation: false,
    backgroundColor: "#ffffff", // also on a dark page
    legend: {
      ...{
        top: 48,
        left: FIRST.x - 48,
        itemGap: 24,
        itemWidth: 26,
        itemHeight: 4,
        selectedMode: false,
      },
      data: [
        { name: TIME.name, icon: "rect" },
        { name: FLOPS.name, icon: DASHES },
      ],
      textStyle: { fontSize: 13 },
    },
    title: [
      {
        text: "How the time of a step grows with each size of the model and the batch",
        ...{ subtext: caveat(here), subtextStyle: GREY, left: FIRST.x - 52, top: 6, itemGap: 4 },
        textStyle: { fontSize: 16 },
      },
      ...panels.map(({ title }) => title),
    ],
    grid: panels.map(({ grid }) => grid),
    xAxis: panels.map(({ xAxis }, gridIndex) => ({ ...xAxis, gridIndex })),
    yAxis: panels.map(({ yAxis }, gridIndex) => ({ ...yAxis, gridIndex })),
    series: panels.flatMap(({ series }, index) =>
      series.map((line) => ({ ...line, type: "line", xAxisIndex: index, yAxisIndex: index })),
    ),
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return `${svg}\n`;
}

/** Powers of two around the values, and doublings from tick to tick: at most four intervals. */
function scaleOf(values: readonly number[]) {
  const low = Math.floor(Math.log2(Math.min(...values)));
  const high = Math.ceil(Math.log2(Math.max(...values)));
  const interval = Math.max(1, Math.ceil((high - low) / 4));
  const steps = Math.max(1, Math.ceil((high - low) / interval));
  return { min: 2 ** low, max: 2 ** (low + steps * interval), interval };
}

const timeText = (ms: number) => (ms < 1 ? `${(1000 * ms).toFixed()} µs` : `${ms.toFixed()} ms`);

function panel(
  { kind, base }: Result,
  { axis, points, exponent }: Curve,
  { column, row }: { readonly column: number; readonly row: number },
) {
  const [left, top] = [FIRST.x + column * STEP.x, FIRST.y + row * STEP.y];
  const sizes = points.map(({ point }) => String(point[axis]));
  const measured = points.map(({ milliseconds }) => milliseconds);
  const share = points.map(({ gflop }) => (base.milliseconds * gflop) / base.gflop);
  const fit =
    exponent === undefined ? "FLOPs grow by less than 2" : `time ~ FLOPs^${exponent.toFixed(2)}`;
  return {
    title: {
      ...{ text: `${kind}: ${axis}`, subtext: fit },
      ...{ left: left - 2, top: top - 44, itemGap: 3, padding: 0 },
      ...{ textStyle: { fontSize: 14 }, subtextStyle: GREY },
    },
    grid: { left, top, ...PANEL },
    // Sizes double or so from point to point: evenly spaced, they stand on a logarithmic scale.
    xAxis: { type: "category", data: sizes, boundaryGap: false, axisLabel: { fontSize: 12 } },
    yAxis: {
      ...{ type: "log", logBase: 2, ...scaleOf([...measured, ...share]) },
      axisLabel: { fontSize: 12, formatter: timeText },
    },
    series: [
      { ...TIME, data: measured, symbolSize: 7, lineStyle: { width: 2.5 } },
      { ...FLOPS, data: share, symbol: "none", lineStyle: { type: "dashed", width: 2 } },
    ],
  };
}
