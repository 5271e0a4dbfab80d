/** Programs that load the library and simply end; run by tests/workers.test.ts. */
const mode = process.argv[2];
if (mode === "compute") {
  const { ones } = await import("../../tensor/mod.ts");
  const x = ones([512, 512]);
  // Long enough for the workers to start and take part.
  for (let turn = 0; turn < 30; turn++) x.matmul(x).dispose();
} else if (mode === "import") {
  await import("../../tensor/mod.ts");
} else {
  // "slow": the caller had to ask whether a worker lives. "lost": one did not.
  const { faultyPool } = await import("../support/faulty_pool.ts");
  const pool = faultyPool(2, "process.exit(3);");
  if (mode === "lost") pool.loseWorker();
  else pool.runSlowly(700);
}
console.log("end of the program");
