/** Curves over the steps of several runs, as a picture in SVG. */

import { renderSvg } from "./plot.ts";

export interface Curve {
  readonly name: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

const SIZE = { width: 900, height: 480 };

/** One line a run. */
export function curveChart(curves: readonly Curve[], metric: string): Promise<string> {
  const option = {
    title: { text: `${metric} over the steps of training`, left: 12, top: 8 },
    legend: { top: 40, left: 12, type: "plain", width: SIZE.width - 24 },
    grid: { left: 64, right: 28, top: 60 + 22 * Math.ceil(curves.length / 3), bottom: 52 },
    xAxis: { type: "value", name: "step", nameLocation: "middle", nameGap: 30, min: 0 },
    yAxis: { type: "value", scale: true },
    series: curves.map(({ name, points }) => ({
      ...{ type: "line", name, data: points },
      ...{ symbolSize: 5, lineStyle: { width: 2 } },
    })),
  };
  return renderSvg(option, SIZE);
}
