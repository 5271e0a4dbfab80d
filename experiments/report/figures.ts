/** The figures of the report: lines, bars with intervals, a heat map; data first, then SVG. */

import { COLOURS, renderSvg } from "../../rl/plot.ts";

/** A value with its interval, in the unit of the axis. */
export interface Point {
  readonly x: number | string;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
}

interface Common {
  /** File name without its ending. */
  readonly name: string;
  readonly title: string;
  /** What it shows and how to read it; stands below the picture. */
  readonly caption: string;
}

export interface Lines extends Common {
  readonly kind: "lines";
  readonly x: string;
  readonly y: string;
  /** Powers of two on the x axis. */
  readonly logX?: boolean;
  readonly series: readonly {
    readonly name: string;
    readonly points: readonly Point[];
    readonly dashed?: boolean;
  }[];
}

export interface Bars extends Common {
  readonly kind: "bars";
  readonly y: string;
  readonly groups: readonly string[];
  readonly series: readonly { readonly name: string; readonly values: readonly (Point | null)[] }[];
}

export interface Heat extends Common {
  readonly kind: "heat";
  readonly x: string;
  readonly y: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** By row, then column; null: nothing there. */
  readonly values: readonly (readonly (number | null)[])[];
  readonly unit: string;
}

/** Plain data: a report is drawn from saved findings. */
export type Figure = Lines | Bars | Heat;

const SIZE = { width: 760, height: 400 };
const text = { color: "#24292f", fontSize: 13 };
const axis = (name: string) => ({
  ...{ name, nameLocation: "middle", nameTextStyle: text, axisLabel: { fontSize: 12 } },
});

function base({ title }: Common, legend: readonly string[]) {
  const rows = Math.ceil(legend.length / 4);
  return {
    title: { text: title, left: 12, top: 8, textStyle: { fontSize: 15, color: "#24292f" } },
    legend: {
      ...{ data: [...legend], top: 36, left: 12, width: SIZE.width - 24, itemGap: 36 },
      ...{ textStyle: text, show: legend.length > 1 },
    },
    grid: { left: 70, right: 24, top: legend.length > 1 ? 52 + 22 * rows : 56, bottom: 56 },
  };
}

/** Whiskers from low to high over points of an axis: [x, low, high] each, moved sideways. */
function whiskers(
  name: string,
  data: readonly (readonly [number | string, number, number])[],
  shift: (unit: number) => number,
  colour: string,
) {
  return {
    ...{ type: "custom", name, data, silent: true, z: 10, tooltip: { show: false } },
    renderItem: (_: unknown, api: Api) => {
      const [high, low] = [
        api.coord([api.value(0), api.value(2)]),
        api.coord([api.value(0), api.value(1)]),
      ];
      const x = high[0]! + shift(api.size([1, 0])[0]!);
      const line = (x1: number, y1: number, x2: number, y2: number) => ({
        type: "line",
        shape: { x1, y1, x2, y2 },
        style: { stroke: colour, lineWidth: 1.4 },
      });
      return {
        type: "group",
        children: [
          line(x, high[1]!, x, low[1]!),
          line(x - 4, high[1]!, x + 4, high[1]!),
          line(x - 4, low[1]!, x + 4, low[1]!),
        ],
      };
    },
  };
}
interface Api {
  value(i: number): number;
  coord(at: readonly number[]): number[];
  size(span: readonly number[]): number[];
}

const intervals = (points: readonly (Point | null)[]) =>
  points.flatMap((p) =>
    p === null || p.low === undefined || p.high === undefined
      ? []
      : [[p.x, p.low, p.high] as const],
  );

function linesOption(figure: Lines): object {
  const colour = (i: number) => COLOURS[i % COLOURS.length]!;
  const isNamed = figure.series.some(({ points }) => points.some(({ x }) => typeof x === "string"));
  const labels = [...new Set(figure.series.flatMap(({ points }) => points.map(({ x }) => x)))];
  const kind = isNamed ? "category" : figure.logX ? "log" : "value";
  const points = figure.series.flatMap((one) => one.points);
  return {
    ...base(
      figure,
      figure.series.map(({ name }) => name),
    ),
    xAxis: {
      ...axis(figure.x),
      ...{ type: kind, nameGap: 32, logBase: 2, ...(isNamed && { data: labels.map(String) }) },
      ...(kind === "value" && { min: "dataMin", max: "dataMax" }),
    },
    yAxis: { ...axis(figure.y), type: "value", nameGap: 46, ...heights(points) },
    series: figure.series.flatMap(({ name, points, dashed }, i) => [
      {
        ...{ type: "line", name, symbolSize: 6, color: colour(i) },
        data: points.map(({ x, y }) => [isNamed ? String(x) : x, y]),
        lineStyle: { width: 2.2, type: dashed ? "dashed" : "solid" },
      },
      whiskers(`${name} interval`, intervals(points), () => 0, colour(i)),
    ]),
  };
}

/** From below the lowest whisker to above the highest, in steps of 5. */
function heights(points: readonly Point[]): { min: number; max: number } {
  const low = Math.min(...points.map(({ y, low }) => low ?? y));
  const high = Math.max(...points.map(({ y, high }) => high ?? y));
  const min = 5 * Math.floor(low / 5);
  return { min, max: Math.max(min + 5, 5 * Math.ceil(high / 5)) };
}

function barsOption(figure: Bars): object {
  const n = figure.series.length;
  const points = figure.series.flatMap(({ values }) => values.filter((value) => value !== null));
  const ground = { x: 0, y: 0 };
  // Bars of a group share 70 % of its width; a bar's whisker stands on its middle.
  const shift = (k: number) => (unit: number) => ((k - (n - 1) / 2) * unit * 0.7) / n;
  return {
    ...base(
      figure,
      figure.series.map(({ name }) => name),
    ),
    xAxis: { type: "category", data: [...figure.groups], axisLabel: { fontSize: 12, interval: 0 } },
    yAxis: { ...axis(figure.y), type: "value", nameGap: 46, ...heights([ground, ...points]) },
    series: figure.series.flatMap(({ name, values }, k) => [
      {
        ...{ type: "bar", name, barCategoryGap: "30%", barGap: "0%" },
        data: values.map((value) => value?.y ?? null),
      },
      whiskers(
        `${name} interval`,
        intervals(values.map((value, i) => value && { ...value, x: i })),
        shift(k),
        "#24292f",
      ),
    ]),
  };
}

function heatOption(figure: Heat): object {
  const cells = figure.values.flatMap((row, y) =>
    row.flatMap((value, x) => (value === null ? [] : [[x, y, Number(value.toFixed(1))]])),
  );
  const most = Math.max(1, ...cells.map(([, , value]) => Math.abs(value!)));
  return {
    ...base(figure, []),
    grid: { left: 130, right: 24, top: 56, bottom: 64 },
    xAxis: { ...axis(figure.x), type: "category", data: [...figure.columns], nameGap: 36 },
    yAxis: {
      ...axis(figure.y),
      type: "category",
      data: [...figure.rows],
      nameGap: 100,
      inverse: true,
    },
    visualMap: {
      ...{ min: -most, max: most, show: false },
      inRange: { color: ["#eb9f6c", "#ffffff", "#7fbbe3"] }, // light: the numbers stand on them
    },
    series: [
      {
        ...{ type: "heatmap", data: cells, itemStyle: { borderColor: "#ffffff", borderWidth: 2 } },
        label: {
          show: true,
          fontSize: 14,
          color: "#24292f",
          formatter: ({ value }: { value: number[] }) => `${value[2]! > 0 ? "+" : ""}${value[2]}`,
        },
      },
    ],
  };
}

/** The figure as SVG text. */
export function draw(figure: Figure): Promise<string> {
  if (figure.kind === "lines") return renderSvg(linesOption(figure), SIZE);
  if (figure.kind === "bars") return renderSvg(barsOption(figure), SIZE);
  return renderSvg(heatOption(figure), SIZE);
}
