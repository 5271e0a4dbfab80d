/** Names of settings as the sources of verl, TRL and OpenRLHF have them: what an export may set. */

const under = (prefix: string, names: string): string[] =>
  names.split(" ").map((name) => `${prefix}${name}`);

const optim =
  "lr lr_warmup_steps lr_warmup_steps_ratio weight_decay betas clip_grad min_lr_ratio num_cycles " +
  "lr_scheduler_type total_training_steps optimizer zero_indexed_step";

/** verl: leaves of its generated configuration, 0.10 dev (2026). */
export const verlKeys: ReadonlySet<string> = new Set([
  ...under("actor_rollout_ref.actor.optim.", optim),
  ...under("critic.optim.", optim),
  ...under(
    "actor_rollout_ref.actor.",
    "strategy ppo_mini_batch_size ppo_micro_batch_size ppo_micro_batch_size_per_gpu use_dynamic_bsz " +
      "ppo_max_token_len_per_gpu clip_ratio clip_ratio_low clip_ratio_high tau_pos tau_neg " +
      "policy_loss.loss_mode clip_ratio_c loss_agg_mode loss_scale_factor entropy_coeff " +
      "calculate_entropy use_kl_loss kl_loss_coef kl_loss_type ppo_epochs shuffle data_loader_seed " +
      "grad_clip use_torch_compile",
  ),
  ...under(
    "actor_rollout_ref.rollout.",
    "name mode temperature top_k top_p seed prompt_length response_length dtype " +
      "gpu_memory_utilization ignore_eos tensor_model_parallel_size max_model_len load_format n " +
      "val_kwargs.top_k val_kwargs.top_p val_kwargs.temperature val_kwargs.n val_kwargs.do_sample " +
      "do_sample calculate_log_probs",
  ),
  ...under(
    "actor_rollout_ref.model.",
    "path hf_config_path tokenizer_path custom_chat_template lora_rank lora_alpha target_modules " +
      "exclude_modules lora_adapter_path enable_gradient_checkpointing",
  ),
  ...under(
    "data.",
    "tokenizer train_files val_files train_max_samples val_max_samples prompt_key reward_fn_key " +
      "max_prompt_length max_response_length train_batch_size gen_batch_size val_batch_size shuffle " +
      "seed validation_shuffle filter_overlong_prompts truncation",
  ),
  "+data.apply_chat_template_kwargs.enable_thinking",
  ...under("critic.", "model.path ppo_epochs cliprange_value loss_agg_mode grad_clip enable"),
  ...under(
    "algorithm.",
    "gamma lam adv_estimator norm_adv_by_std_in_grpo filter_groups.enable filter_groups.metric " +
      "filter_groups.max_num_gen_batches use_kl_in_reward kl_penalty kl_ctrl.type kl_ctrl.kl_coef " +
      "kl_ctrl.horizon kl_ctrl.target_kl rollout_correction.rollout_is " +
      "rollout_correction.rollout_is_threshold rollout_correction.rollout_rs",
  ),
  ...under("reward.custom_reward_function.", "path name"),
  ...under(
    "trainer.",
    "balance_batch total_epochs total_training_steps project_name experiment_name logger nnodes " +
      "n_gpus_per_node save_freq resume_mode val_before_train val_only test_freq critic_warmup " +
      "default_local_dir max_actor_ckpt_to_keep max_critic_ckpt_to_keep",
  ),
]);

/** OpenRLHF: flags of train_ppo_ray, 0.10 and 0.11. */
export const openrlhfKeys: ReadonlySet<string> = new Set([
  ...["actor", "critic"].flatMap((who) =>
    under(
      `${who}.`,
      "num_nodes num_gpus_per_node model_name_or_path optim muon.lr muon.momentum adam.lr adam.betas " +
        "adam.eps adam.weight_decay lr_scheduler lr_warmup_ratio min_lr_ratio max_norm",
    ),
  ),
  ...under(
    "actor.",
    "eps_clip eps_clip_low_high dual_clip policy_loss_type entropy_coef aux_loss_coef " +
      "gradient_checkpointing_enable",
  ),
  ...under("critic.", "value_clip freezing_steps save_value_network"),
  ...under("ref.", "num_nodes num_gpus_per_node offload"),
  ...under("reward.", "remote_url normalize_enable clip_range model_name_or_path"),
  ...under(
    "algo.",
    "advantage.estimator advantage.gamma advantage.lambd advantage.no_std_norm " +
      "advantage.is_correction_enable advantage.is_correction_threshold " +
      "advantage.is_correction_type kl.init_coef kl.target kl.horizon kl.estimator kl.use_loss " +
      "dynamic_filtering_enable dynamic_filtering_range",
  ),
  ...under(
    "train.",
    "colocate_all num_episodes max_epochs batch_size micro_batch_size seed dynamic_batch_enable " +
      "full_determinism_enable async_enable",
  ),
  ...under(
    "rollout.",
    "batch_size micro_batch_size max_new_tokens top_p temperature n_samples_per_prompt",
  ),
  ...under("data.", "prompt_dataset prompt_split max_len max_samples input_key label_key"),
  ...under("eval.", "dataset split steps temperature n_samples_per_prompt"),
  ...under("ckpt.", "save_steps path max_num output_dir best_metric_key save_hf load_enable"),
  ...under("ds.", "zero_stage enable_sleep lora.rank lora.alpha lora.target_modules lora.dropout"),
  ...under(
    "vllm.",
    "num_engines tensor_parallel_size enable_sleep gpu_memory_utilization sync_backend",
  ),
  ...under("logger.", "tensorboard_dir wandb.key wandb.project wandb.run_name logging_steps"),
]);

const trainingArguments =
  "output_dir per_device_train_batch_size per_device_eval_batch_size gradient_accumulation_steps " +
  "learning_rate weight_decay adam_beta1 adam_beta2 adam_epsilon max_grad_norm num_train_epochs " +
  "max_steps lr_scheduler_type lr_scheduler_kwargs warmup_steps logging_steps save_strategy save_steps " +
  "save_total_limit seed data_seed bf16 eval_strategy eval_steps run_name load_best_model_at_end " +
  "metric_for_best_model greater_is_better optim report_to";

const shared = [
  ...under("", trainingArguments),
  ...under("", "dataset_name dataset_train_split dataset_test_split model_name_or_path dtype"),
  ...under("", "use_peft lora_r lora_alpha lora_dropout lora_target_modules"),
];

/** TRL: fields of its configuration classes, of Trainer's, and of its scripts, 1.1 to 1.10 dev. */
export const trlKeys: Readonly<Record<"grpo" | "sft" | "dpo", ReadonlySet<string>>> = {
  grpo: new Set([
    ...shared,
    ...under(
      "",
      "reward_funcs num_generations num_generations_eval max_completion_length shuffle_dataset " +
        "generation_batch_size steps_per_generation temperature top_p top_k min_p generation_kwargs " +
        "chat_template_kwargs repetition_penalty use_vllm vllm_mode vllm_max_model_length beta " +
        "num_iterations epsilon delta epsilon_high sapo_temperature_neg sapo_temperature_pos " +
        "importance_sampling_level scale_rewards loss_type mask_truncated_completions sync_ref_model " +
        "ref_model_mixup_alpha ref_model_sync_steps top_entropy_quantile " +
        "vllm_importance_sampling_correction vllm_importance_sampling_mode " +
        "vllm_importance_sampling_cap use_bias_correction_kl log_completions",
    ),
  ]),
  sft: new Set([
    ...shared,
    ...under("", "max_length packing completion_only_loss assistant_only_loss shuffle_dataset"),
  ]),
  dpo: new Set([
    ...shared,
    ...under("", "beta label_smoothing loss_type max_length precompute_ref_log_probs"),
  ]),
};
