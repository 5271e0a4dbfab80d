/** The picture of bench/rivals: how many times as long as ours each rival takes, by group. */

import { ScatterChart } from "echarts/charts";
import {
  GridComponent,
  LegendComponent,
  MarkLineComponent,
  TitleComponent,
} from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { columnsOf, GROUPS, geometricMean, type Results, ratios } from "./results.ts";

use([ScatterChart, GridComponent, LegendComponent, MarkLineComponent, TitleComponent, SVGRenderer]);

const [WIDTH, ROW, TOP, BOTTOM, LEFT] = [900, 52, 132, 56, 210];

/** Colour and shape by participant: engines of ours are hollow. */
const LOOK: Record<string, readonly [color: string, symbol: string]> = {
  ...{ wide: ["#0b62a4", "emptyCircle"], bun: ["#0b62a4", "emptyDiamond"] },
  ...{ deno: ["#0b62a4", "emptyTriangle"], jax: ["#d1603d", "circle"] },
  ...{ tfjs: ["#e0a100", "triangle"], "ort-web": ["#7a5195", "diamond"] },
  ...{ "ort-node": ["#7a5195", "rect"], plain: ["#8a8a8a", "circle"] },
  ...{ openblas: ["#2f8f4e", "rect"], pytorch: ["#2f8f4e", "circle"] },
};

/** One line for each group of tasks, one mark for each rival: geometric means, as SVG text. */
export function chart({ rows, participants, cpu, cores }: Results): string {
  const groups = GROUPS.filter((group) => rows.some((row) => row.group === group));
  const series = columnsOf(participants)
    .filter(({ id }) => id !== "ours")
    .map(({ id, name }) => {
      const [color, symbol] = LOOK[id] ?? ["#000000", "circle"];
      const data = groups.flatMap((group) => {
        const found = ratios(
          rows.filter((row) => row.group === group),
          id,
        );
        return found.length === 0 ? [] : [[geometricMean(found), group] as const];
      });
      return { name, type: "scatter", symbolSize: 12, symbol, color, data };
    })
    .filter(({ data }) => data.length > 0);
  const all = series.flatMap(({ data }) => data.map(([ratio]) => ratio));
  const height = TOP + groups.length * ROW + BOTTOM;
  const canvas = init(null, null, { renderer: "svg", ssr: true, width: WIDTH, height });
  const equal = {
    ...{ silent: true, symbol: "none", data: [{ xAxis: 1 }] },
    ...{ lineStyle: { color: "#222222", type: "solid", width: 1.5 }, label: { show: false } },
  };
  canvas.setOption({
    ...{ animation: false, backgroundColor: "#ffffff" },
    title: {
      text: "Time of the same task, over anamnesis' on Node (right of 1: anamnesis is faster)",
      subtext: `geometric means; ${cpu}, ${cores} cores`,
      ...{ left: 12, top: 6, itemGap: 4, textStyle: { fontSize: 15 } },
    },
    legend: { top: 56, left: 12, right: 12, itemGap: 24, itemWidth: 14 },
    grid: { left: LEFT, right: 30, top: TOP, bottom: BOTTOM },
    xAxis: {
      ...{ type: "log", logBase: 2 },
      min: 2 ** Math.floor(Math.log2(Math.min(1, ...all))),
      max: 2 ** Math.ceil(Math.log2(Math.max(1, ...all))),
      axisLabel: { formatter: (x: number) => (x < 1 ? `1/${1 / x}` : String(x)) },
      splitLine: { lineStyle: { color: "#e6e6e6" } },
    },
    yAxis: {
      ...{ type: "category", data: [...groups], inverse: true },
      ...{ axisTick: { show: false }, splitLine: { show: true, lineStyle: { color: "#eeeeee" } } },
    },
    series: series.map((one, i) => (i === 0 ? { ...one, markLine: equal } : one)),
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return `${svg}\n`;
}
