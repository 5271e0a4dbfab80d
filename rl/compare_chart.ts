/** Curves over the steps of several runs, as a picture in SVG. */

import { UserError } from "./user_error.ts";

export interface Curve {
  readonly name: string;
  readonly points: readonly (readonly [step: number, value: number])[];
}

const SIZE = { width: 900, height: 480 };
/** Told apart also by people who see few colours (Okabe and Ito's palette). */
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/** One line a run. The plotting library is for development: without it a UserError says so. */
export async function curveChart(curves: readonly Curve[], metric: string): Promise<string> {
  const { init, use, parts } = await load();
  use(parts);
  const canvas = init(null, null, { renderer: "svg", ssr: true, ...SIZE });
  canvas.setOption({
    animation: false,
    backgroundColor: "#ffffff", // also on a dark page
    color: COLOURS,
    title: { text: `${metric} over the steps of training`, left: 12, top: 8 },
    legend: { top: 40, left: 12, type: "plain", width: SIZE.width - 24 },
    grid: { left: 64, right: 28, top: 60 + 22 * Math.ceil(curves.length / 3), bottom: 52 },
    xAxis: { type: "value", name: "step", nameLocation: "middle", nameGap: 30, min: 0 },
    yAxis: { type: "value", scale: true },
    series: curves.map(({ name, points }) => ({
      ...{ type: "line", name, data: points },
      ...{ symbolSize: 5, lineStyle: { width: 2 } },
    })),
  });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return svg;
}

async function load() {
  try {
    const [{ LineChart }, components, { init, use }, { SVGRenderer }] = await Promise.all([
      import("echarts/charts"),
      import("echarts/components"),
      import("echarts/core"),
      import("echarts/renderers"),
    ]);
    const { GridComponent, LegendComponent, TitleComponent } = components;
    return {
      ...{ init, use },
      parts: [LineChart, GridComponent, LegendComponent, TitleComponent, SVGRenderer],
    };
  } catch {
    throw new UserError(
      "pictures are drawn by echarts, which is not installed: npm install echarts",
    );
  }
}
