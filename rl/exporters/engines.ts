/** The engines that a run is exported to: their table, rows, files, and what is never the same there. */

import type { Plan, Settings, Table } from "./account.ts";
import { openrlhf } from "./openrlhf.ts";
import { trlReward, verlReward } from "./reward_py.ts";
import { openrlhfRow, type RowForm, type RowOf, trlRow, verlRow } from "./rows.ts";
import { flagWords, hydraWords, launchScript, yamlText } from "./texts.ts";
import { trl, trlCommands } from "./trl.ts";
import { verl } from "./verl.ts";

export const engineNames = ["verl", "trl", "openrlhf"] as const;
export type EngineName = (typeof engineNames)[number];

export interface Engine {
  readonly name: string;
  /** Whose key names and behaviour the table is written against. */
  readonly version: string;
  readonly table: Table;
  /** Arguments of launch.sh that name another model folder. */
  readonly override: string;
  /** Ending of the files of rows; each row is a line in any case. */
  readonly ending: "json" | "jsonl";
  /** Where they lie in the export; "": beside everything else. */
  readonly folder: string;
  readonly row: (form: RowForm) => RowOf;
  /** Whether rewards come from our server. */
  readonly asksServer: (plan: Plan) => boolean;
  /** What is never as it is here: sentences without their stop. */
  readonly gaps: (plan: Plan) => readonly string[];
  /** Further files, by name. */
  readonly files: (plan: Plan, settings: Settings) => Readonly<Record<string, string>>;
}

const here = (name: string): string => `"$HERE/${name}"`;
/** A path below the script's folder as a value of a Hydra override. */
const hydraHere = (key: string, name: string): string => `${key}='"'${here(name)}'"'`;
const runName = ({ config: { method } }: Plan): string => `anamnesis-${method}`;

const verlEngine: Engine = {
  name: "verl",
  version: "0.8 and 0.10 dev (verl.trainer.main_ppo, _generated_ppo_trainer.yaml of 2026)",
  table: verl,
  override: "actor_rollout_ref.model.path=FOLDER",
  ending: "json",
  folder: "",
  row: verlRow,
  asksServer: () => true,
  gaps: () => [
    "A group of one has its reward as advantage in verl, and 0 here",
    "reward.py raises where the server does not answer: the run stops, and resumes from its checkpoint",
  ],
  files: (plan, settings) => ({
    "reward.py": verlReward,
    "launch.sh": launchScript("python3 -m verl.trainer.main_ppo", [
      hydraHere("data.train_files", "train.json"),
      hydraHere("data.val_files", "validation.json"),
      ...hydraWords({
        "data.prompt_key": "prompt",
        "data.shuffle": true,
        "data.filter_overlong_prompts": false,
        "data.truncation": "error",
      }),
      hydraHere("reward.custom_reward_function.path", "reward.py"),
      ...hydraWords({
        "reward.custom_reward_function.name": "compute_score",
        ...settings,
        "actor_rollout_ref.actor.use_dynamic_bsz": true,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "trainer.nnodes": 1,
        "trainer.experiment_name": runName(plan),
        "trainer.resume_mode": "auto",
      }),
      hydraHere("trainer.default_local_dir", "checkpoints"),
      'trainer.n_gpus_per_node="$GPUS"',
    ]),
  }),
};

const trlEngine: Engine = {
  name: "TRL",
  version: "1.1 to 1.10 dev (trl grpo, trl sft, trl dpo)",
  table: trl,
  override: "--model_name_or_path FOLDER",
  ending: "jsonl",
  folder: "data",
  row: trlRow,
  asksServer: ({ config }) => config.method === "grpo",
  gaps: ({ config }) => [
    "The batch is that of one process: on n GPUs divide gradient_accumulation_steps by n",
    ...(config.method === "grpo"
      ? [
          "TRL itself would count an answer without a reward as 0: reward.py raises in its place",
          "A pass over the questions is shuffled by TRL's own sampler, and leaves out what fills no batch",
        ]
      : ["Rows are shuffled by the trainer's own sampler"]),
  ],
  files(plan, settings) {
    const command = trlCommands[plan.config.method as keyof typeof trlCommands];
    const grpo = command === "grpo";
    const own = {
      dataset_name: "data",
      dataset_train_split: "train",
      dataset_test_split: "validation",
      output_dir: "checkpoints",
      logging_steps: 1,
      ...(grpo && { use_vllm: true, vllm_mode: "colocate", log_completions: true }),
    };
    return {
      ...(grpo && { "reward.py": trlReward }),
      "run.yaml": yamlText({ ...own, ...settings }),
      "launch.sh": launchScript(`trl ${command}`, ['--config run.yaml --num_processes "$GPUS"']),
    };
  },
};

const openrlhfEngine: Engine = {
  name: "OpenRLHF",
  version: "0.10 and 0.11 (openrlhf.cli.train_ppo_ray with dotted flags)",
  table: openrlhf,
  override: "--actor.model_name_or_path FOLDER",
  ending: "jsonl",
  folder: "",
  row: openrlhfRow,
  asksServer: () => true,
  gaps: () => [
    "OpenRLHF logs a reward that it could not fetch and goes on without it: start the server first, and " +
      "see that its /health counts what was judged",
    "Prompts are in the rows as the template writes them; it tokenizes them without special tokens of its own",
    "Rewards are clipped to ±10 there, which changes none of ours",
  ],
  files: (plan, settings) => ({
    "launch.sh": launchScript("python3 -m openrlhf.cli.train_ppo_ray", [
      `--data.prompt_dataset ${here("train.jsonl")}`,
      "--data.input_key input",
      "--data.label_key label",
      `--eval.dataset ${here("validation.jsonl")}`,
      '--reward.remote_url "$ANAMNESIS_REWARD_URL"',
      ...flagWords(settings),
      ...["actor", "ref", ...(plan.config.method === "ppo" ? ["critic"] : [])].map(
        (who) => `--${who}.num_nodes 1 --${who}.num_gpus_per_node "$GPUS"`,
      ),
      '--vllm.num_engines "$GPUS" --vllm.tensor_parallel_size 1 --vllm.gpu_memory_utilization 0.5',
      "--train.colocate_all --vllm.enable_sleep --ds.enable_sleep",
      `--ckpt.output_dir ${here("model")} --ckpt.path ${here("checkpoints")}`,
      ...(plan.config.track.tensorboard ? [`--logger.tensorboard_dir ${here("tensorboard")}`] : []),
    ]),
  }),
};

export const engines: Readonly<Record<EngineName, Engine>> = {
  verl: verlEngine,
  trl: trlEngine,
  openrlhf: openrlhfEngine,
};
