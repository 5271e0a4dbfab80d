/** Pictures as SVG text, drawn by echarts without a browser; it is for development, loaded when asked. */

import { UserError } from "./user_error.ts";

/** Told apart also by people who see few colours (Okabe and Ito's palette). */
export const COLOURS = [
  ...["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#7f7f7f"],
];

/** An echarts option as SVG. Throws a UserError where the library isn't installed. */
export async function renderSvg(
  option: object,
  size: { readonly width: number; readonly height: number },
): Promise<string> {
  const { init, use, parts } = await load();
  use(parts);
  const canvas = init(null, null, { renderer: "svg", ssr: true, ...size });
  // White also on a dark page.
  canvas.setOption({ animation: false, backgroundColor: "#ffffff", color: COLOURS, ...option });
  const svg = canvas.renderToSVGString();
  canvas.dispose();
  return svg;
}

async function load() {
  try {
    const [charts, components, { init, use }, { SVGRenderer }] = await Promise.all([
      import("echarts/charts"),
      import("echarts/components"),
      import("echarts/core"),
      import("echarts/renderers"),
    ]);
    const { BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart } = charts;
    const { GridComponent, LegendComponent, TitleComponent, VisualMapComponent } = components;
    const { MarkLineComponent } = components;
    return {
      ...{ init, use },
      parts: [
        ...[BarChart, CustomChart, HeatmapChart, LineChart, ScatterChart, SVGRenderer],
        ...[GridComponent, LegendComponent, TitleComponent, VisualMapComponent, MarkLineComponent],
      ],
    };
  } catch {
    throw new UserError(
      "pictures are drawn by echarts, which is not installed: npm install echarts",
    );
  }
}
