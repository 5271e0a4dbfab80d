/** Numbers, tables and small curves as plain text for the terminal and Markdown for the report. */

/** A proportion with its interval, both as shares of 1. */
export interface Proportion {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** "28.0 % [25.1, 31.2]", or "28.0 %" without an interval. Takes shares of 1; NaN is "n/a". */
export function percent(share: number | Proportion, digits = 1): string {
  const scaled = (value: number) => (100 * value).toFixed(digits);
  if (typeof share === "number") return Number.isNaN(share) ? "n/a" : `${scaled(share)} %`;
  if (Number.isNaN(share.value)) return "n/a";
  return `${scaled(share.value)} % [${scaled(share.low)}, ${scaled(share.high)}]`;
}

/** A difference of two shares in percentage points, always with its sign: "+31.8 points". */
export function points(difference: number, digits = 1): string {
  if (Number.isNaN(difference)) return "n/a";
  const text = (100 * difference).toFixed(digits);
  const zero = Number(text) === 0;
  return `${zero ? "±" : difference > 0 ? "+" : ""}${zero ? text.replace("-", "") : text} points`;
}

/** "p = 0.012", "p = 4.0e-95"; never "p = 0", which no test can show. */
export function pValue(p: number): string {
  if (Number.isNaN(p)) return "p n/a";
  if (p === 0) return "p < 1e-300";
  return `p = ${p >= 0.001 ? p.toPrecision(2) : p.toExponential(1)}`;
}

/** 1234567 -> "1,234,567" */
export function count(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** Four significant digits without trailing noise: 1.234, 12.35, 4e-5, 123457. */
export function short(value: number): string {
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  const size = Math.abs(value);
  if (size >= 1000) return value.toFixed(0);
  return size < 1e-3 ? String(Number(value.toPrecision(3))) : String(Number(value.toPrecision(4)));
}

/** 12345 -> "12.3k" */
export function compact(value: number): string {
  const units = ["", "k", "M", "G", "T"];
  let scaled = value;
  let unit = 0;
  while (Math.abs(scaled) >= 999.5 && unit < units.length - 1) {
    scaled /= 1000;
    unit++;
  }
  return `${unit === 0 ? Number(scaled.toPrecision(3)) : scaled.toPrecision(3)}${units[unit]}`;
}

/** "0.42 s", "35 s", "2 min 05 s", "3 h 07 min" */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "unknown";
  if (seconds < 9.95) return `${seconds.toPrecision(2)} s`;
  const whole = Math.round(seconds);
  const two = (value: number) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${two(whole % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

export interface Column {
  readonly title: string;
  /** Numbers to the right, words to the left, which is the default. */
  readonly align?: "left" | "right";
}

/** Rows of ready-made text, to be shown as plain text or as Markdown. */
export interface Table {
  readonly title?: string;
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly string[])[];
}

/** Aligned columns under a rule; two spaces between columns, none at line ends. */
export function textTable({ title, columns, rows }: Table): string {
  checkRows(columns, rows);
  const widths = columns.map((column, i) =>
    Math.max(width(column.title), ...rows.map((row) => width(row[i]!))),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => {
        const space = " ".repeat(widths[i]! - width(cell));
        return columns[i]!.align === "right" ? space + cell : cell + space;
      })
      .join("  ")
      .trimEnd();
  const rule = widths.map((size) => "─".repeat(size)).join("  ");
  const head = [line(columns.map((column) => column.title)), rule];
  return [...(title ? [title, ""] : []), ...head, ...rows.map(line)].join("\n");
}

/** The same table in GitHub's Markdown. */
export function markdownTable({ title, columns, rows }: Table): string {
  checkRows(columns, rows);
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell) => cell.replace(/[|\\]/g, "\\$&").replace(/\s+/g, " ")).join(" | ")} |`;
  const marks = columns.map(({ align }) => (align === "right" ? "---:" : "---"));
  const head = [line(columns.map((column) => column.title)), `| ${marks.join(" | ")} |`];
  return [...(title ? [`### ${title}`, ""] : []), ...head, ...rows.map(line)].join("\n");
}

/** A bar of `cells` characters for a share of 1, in eighths of a character: "███▌    ". */
export function bar(share: number, cells = 20): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share || 0)) * cells * 8);
  const full = "█".repeat(Math.floor(eighths / 8));
  const part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]!;
  return (full + part).padEnd(cells);
}

/** A curve on one line, lowest "▁" to highest "█"; a gap for NaN, one level if all are equal. */
export function sparkline(values: readonly number[], range?: readonly [number, number]): string {
  const levels = "▁▂▃▄▅▆▇█";
  const finite = values.filter(Number.isFinite);
  const [low, high] = range ?? [Math.min(...finite), Math.max(...finite)];
  const level = (value: number) => {
    const share = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : 0.5;
    return levels[Math.min(levels.length - 1, Math.floor(share * levels.length))]!;
  };
  return values.map((value) => (Number.isFinite(value) ? level(value) : " ")).join("");
}

/** Characters on the screen; accents that combine with the letter before them take no room. */
function width(text: string): number {
  return [...text.normalize("NFC").replace(/\p{M}/gu, "")].length;
}

function checkRows(columns: readonly Column[], rows: Table["rows"]): void {
  for (const [i, row] of rows.entries()) {
    if (row.length !== columns.length) {
      throw new RangeError(`table: row ${i} has ${row.length} cells for ${columns.length} columns`);
    }
  }
}
