/** The picture of bench/scaling.ts: time along each axis, and what its FLOPs alone would take. */

import { LineChart } from "echarts/charts";
import { GridComponent, LegendComponent, TitleComponent } from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import type { Curve, Result } from "./scaling.ts";
import { caveat, type Machine } from "./support.ts";

use([LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer]);

/** Pixels: a panel's size, the gaps between panels, the margins, the rows' distance. */
const [PANEL, GAP, LEFT, TOP] = [190, 62, 64, 112];
const [HEIGHT, ROW] = [190, 290];
const TIME = { name: "measured", color: "#0b62a4" };
const FLOPS = { name: "if time followed FLOPs", color: "#d1603d" };

/** One panel for each axis of each kind of step; both scales logarithmic, as SVG text. */
export function chart(results: readonly Result[], here: Machine): string {
  const columns = results[0]!.curves.length;
  const width = LEFT + columns * (PANEL + GAP);
  const height = TOP + results.length * ROW;
  const panels = results.flatMap((result, row) =>
    result.curves.map((curve, column) => panel(result, curve, row, column, row * columns + column)),
  );
  const canvas = init(null, null, { renderer: "svg", ssr: true, width, height });
  canvas.setOption({
    animation: false,
    backgroundColor: "#ffffff",
    legend: { top: 46, left: LEFT - 8, data: [TIME.name, FLOPS.name], itemGap: 24 },
    title: [
      {
        text: "How the time of a step grows with each size of the model and the batch",
        ...{ subtext: caveat(here), left: LEFT - 12, top: 6, itemGap: 4 },
        textStyle: { fontSize: 16 },
      },
      ...panels.map(({ title }) => title),
    ],
    grid: panels.map(({ grid }) => grid),
    xAxis: panels.map(({ xAxis }) => xAxis),
    yAxis: panels.map(({ yAxis }) => yAxis),
    series: panels.flatMap(({ series }) => series),
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return `${svg}\n`;
}

function panel(
  { kind, base }: Result,
  { axis, points, exponent }: Curve,
  row: number,
  column: number,
  index: number,
) {
  const [left, top] = [LEFT + column * (PANEL + GAP), TOP + 26 + row * ROW];
  const sizes = points.map(({ point }) => String(point[axis]));
  const measured = points.map(({ milliseconds }) => milliseconds);
  const share = points.map(({ gflop }) => (base.milliseconds * gflop) / base.gflop);
  const all = [...measured, ...share];
  const place = { xAxisIndex: index, yAxisIndex: index, type: "line" };
  const fit =
    exponent === undefined ? "FLOPs grow by less than 2" : `time ~ FLOPs^${exponent.toFixed(2)}`;
  return {
    title: {
      ...{ text: `${kind}: ${axis}`, subtext: fit },
      ...{ left: left - 8, top: top - 44, itemGap: 2, padding: 0 },
      ...{ textStyle: { fontSize: 12 }, subtextStyle: { fontSize: 11 } },
    },
    grid: { left, top, width: PANEL, height: HEIGHT },
    // Sizes double or so from point to point: evenly spaced, they stand on a logarithmic scale.
    xAxis: { gridIndex: index, type: "category", data: sizes, boundaryGap: false },
    yAxis: {
      ...{ gridIndex: index, type: "log", logBase: 2 },
      min: 2 ** Math.floor(Math.log2(Math.min(...all))),
      max: 2 ** Math.ceil(Math.log2(Math.max(...all))),
      axisLabel: { formatter: (ms: number) => `${Number(ms.toPrecision(3))} ms` },
    },
    series: [
      { ...place, ...TIME, data: measured, symbolSize: 7, lineStyle: { width: 2.5 } },
      { ...place, ...FLOPS, data: share, symbol: "none", lineStyle: { type: "dashed", width: 2 } },
    ],
  };
}
