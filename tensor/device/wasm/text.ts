/** WebAssembly text of assembled functions, so that a kernel can be read. */
import type { FunctionBuilder, Statement } from "./function.ts";
import { lowered } from "./function.ts";
import type { Value, ValueType } from "./tree.ts";

const WIDTH = 96;

interface PrintedFunction {
  readonly name: string;
  readonly parameters: readonly ValueType[];
  readonly result: ValueType | "void";
  readonly builder: FunctionBuilder;
}

/** `(func $name (export "name") (param ...) (local ...) statements)` with folded expressions. */
export function functionText({ name, parameters, result, builder }: PrintedFunction): string {
  const declared = builder.locals.map(({ type }, index) => {
    const kind = index < parameters.length ? "param" : "local";
    return `(${kind} ${builder.names[index]} ${type})`;
  });
  if (result !== "void") declared.splice(parameters.length, 0, `(result ${result})`);
  const lines = [`(func $${name} (export "${name}")`];
  for (const item of declared) {
    const last = lines.at(-1)!;
    if (last.length + item.length < WIDTH) lines[lines.length - 1] = `${last} ${item}`;
    else lines.push(`  ${item}`);
  }
  for (const statement of [...builder.prologue, ...builder.body]) {
    lines.push(...statementText(statement, "  ", builder));
  }
  if (result !== "void") lines.push("  unreachable");
  return `${lines.join("\n")})`;
}

/** The whole module: imports, constant table, functions. */
export function moduleText(
  functions: readonly string[],
  constantsStart: number,
  constants: readonly number[],
): string {
  const escaped = constants.map((byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("");
  const data = constants.length > 0 ? [`(data (i32.const ${constantsStart}) "${escaped}")`] : [];
  const items = [
    '(import "env" "memory" (memory 1 65536 shared))',
    '(import "env" "scratch" (global $scratch i32))',
    ...functions,
    ...data,
  ];
  return `(module\n${items.map((item) => item.replace(/^/gm, "  ")).join("\n")})\n`;
}

function statementText(statement: Statement, indent: string, f: FunctionBuilder): string[] {
  if (!("kind" in statement)) return valueText(statement, indent, f);
  const block = (list: readonly Statement[]) =>
    list.flatMap((inner) => statementText(inner, `${indent}  `, f));
  if (statement.kind === "loop") return close([`${indent}(loop`, ...block(statement.body)]);
  const nested = (word: string, list: readonly Statement[]) =>
    close([
      `${indent}  (${word}`,
      ...list.flatMap((inner) => statementText(inner, `${indent}    `, f)),
    ]);
  return close([
    `${indent}(if`,
    ...valueText(statement.condition, `${indent}  `, f),
    ...nested("then", statement.body),
    ...(statement.otherwise.length > 0 ? nested("else", statement.otherwise) : []),
  ]);
}

const close = (lines: string[]): string[] => [...lines.slice(0, -1), `${lines.at(-1)})`];

function valueText(tree: Value, indent: string, f: FunctionBuilder): string[] {
  const value = lowered(tree, f);
  const head = `${indent}(${value.name}${value.text === "" ? "" : ` ${value.text}`}`;
  if (value.operands.length === 0) return [`${head})`];
  const operands = value.operands.map((operand) => valueText(operand, `${indent}  `, f));
  const flat = `${head} ${operands
    .flat()
    .map((line) => line.trim())
    .join(" ")})`;
  if (flat.length <= WIDTH) return [flat];
  return close([head, ...operands.flat()]);
}
