/** A process of its own that opens a model's folder and says how much memory that took at most. */
// Arguments: a folder. Without weights it is written first, by the process that asks.

import { loadModel } from "../../model/checkpoint.ts";
import { currentDevice } from "../../tensor/mod.ts";

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("bench/scale/load.ts FOLDER");
currentDevice();
const most = () => 1024 * process.resourceUsage().maxRSS;
const before = most();
loadModel(folder);
console.log(JSON.stringify({ peak: most() - before, weights: currentDevice().liveBytes }));
