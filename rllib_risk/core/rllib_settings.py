"""What every setting of RLlib's ``AlgorithmConfig`` does in this package.

RLlib has about 250 settings. Many of them belong to parts that this package replaces
(sampler, connectors, learner group, offline data), and would have no effect. Each
attribute of ``AlgorithmConfig`` is in exactly one of three lists:

* :data:`HONOURED`: it works as RLlib documents it.
* :data:`REFUSED`: it has no effect here. A value that differs from the default is an
  error that names what to use instead.
* :data:`IRRELEVANT`: it is RLlib's bookkeeping or a setting of TensorFlow. It is
  ignored.

A test checks all attributes of ``AlgorithmConfig``, so that a new release of Ray cannot
add one that is silently ignored.
"""

from __future__ import annotations

HONOURED: frozenset[str] = frozenset(
    {
        # Environment
        "env",
        "env_config",
        # Sampling
        "num_env_runners",
        "num_envs_per_env_runner",
        "create_env_on_local_worker",
        "env_runner_cls",
        "validate_env_runners_after_construction",
        # Resources
        "num_gpus",
        "num_cpus_for_main_process",
        "custom_resources_for_main_process",
        "num_cpus_per_env_runner",
        "num_gpus_per_env_runner",
        "custom_resources_per_env_runner",
        "placement_strategy",
        "extra_python_environs_for_driver",
        "extra_python_environs_for_worker",
        # Learning
        "num_learners",
        "num_cpus_per_learner",
        "num_gpus_per_learner",
        "custom_resources_per_learner",
        "gamma",
        "lr",
        "grad_clip",
        "optimizer",
        "seed",
        # Evaluation
        "evaluation_interval",
        "evaluation_duration",
        "evaluation_num_env_runners",
        "evaluation_config",
        # Callbacks
        "callbacks_class",
        "callbacks_on_algorithm_init",
        "callbacks_on_checkpoint_loaded",
        "callbacks_on_env_runners_recreated",
        "callbacks_on_environment_created",
        "callbacks_on_episode_created",
        "callbacks_on_episode_start",
        "callbacks_on_episode_step",
        "callbacks_on_episode_end",
        "callbacks_on_evaluate_start",
        "callbacks_on_evaluate_end",
        "callbacks_on_sample_end",
        "callbacks_on_train_result",
        # Reporting
        "keep_per_episode_custom_metrics",
        "metrics_episode_collection_timeout_s",
        "metrics_num_episodes_for_smoothing",
        "min_time_s_per_iteration",
        "min_train_timesteps_per_iteration",
        "min_sample_timesteps_per_iteration",
        "log_level",
        "log_sys_usage",
        # Failures of remote env runners
        "restart_failed_env_runners",
        "ignore_env_runner_failures",
        "max_num_env_runner_restarts",
        "delay_between_env_runner_restarts_s",
        "num_consecutive_env_runner_failures_tolerance",
        "env_runner_health_probe_timeout_s",
        "env_runner_restore_timeout_s",
    }
)

_CHECKPOINTS = "checkpoints hold everything that a run depends on"
_COMPLETE = "episodes are always complete"
_CONNECTORS = "change observations and actions in the environment"
_DATASET = "use dataset, a folder that rllib record or rllib dataset import wrote"
_EVALUATION = "an evaluation is exactly evaluation_duration greedy episodes"
_EXPLORATION = (
    "use exploration, initial_epsilon, final_epsilon and epsilon_anneal_env_steps"
)
_LEARNER = "a policy and its learners are PyTorch's; use num_learners and num_gpus"
_NETWORK = "use hidden_size, recurrent, rnn_cell and parameter_sharing"
_NORMALISE = "normalise in the environment"
_OLD = "it is a name of an older Ray"
_OPE = "it belongs to RLlib's own offline data"
_RECORD = "use rllib record, which writes a dataset"
_REPLAY = "use buffer_size_episodes, learning_starts_episodes and batch_size_episodes"
_RESTARTS = "use max_env_restarts"
_STACK = "these algorithms run on RLlib's TorchPolicyV2 stack; leave it as it is"
_TEAM = "a team is one RLlib agent here; use parameter_sharing"
_UPDATE = "use batch_size_episodes and updates_per_episode"

# Attributes of AlgorithmConfig, and what to use instead.
REFUSED: dict[str, str] = {
    # Environment
    "observation_space": "the environment or the dataset says it",
    "action_space": "the environment or the dataset says it",
    "clip_rewards": "use reward_scale",
    "normalize_actions": "actions are discrete",
    "clip_actions": "actions are discrete",
    "render_env": "use rllib evaluate --render-out",
    "action_mask_key": "name the mask in env_config; see docs/own_environment.md",
    "disable_env_checking": "the environment is always checked",
    # Sampling
    "create_local_env_runner": "the local env runner holds the policy that learns",
    "gym_env_vectorize_mode": "use num_envs_per_env_runner",
    "max_requests_in_flight_per_env_runner": "use overlap_sampling",
    "sample_timeout_s": "a round waits for its episodes; use max_episode_steps",
    "rollout_fragment_length": "use episodes_per_round",
    "batch_mode": _COMPLETE,
    "episode_lookback_horizon": _COMPLETE,
    "episodes_to_numpy": _COMPLETE,
    "compress_observations": "use compact_replay",
    "remote_worker_envs": "use num_env_runners",
    "remote_env_batch_wait_ms": "use num_env_runners",
    "sample_collector": _COMPLETE,
    "sampler_perf_stats_ema_coef": "use env_steps_per_s of the results",
    "fake_sampler": "use dataset to train without sampling",
    "preprocessor_pref": "observations reach the network as they are",
    "observation_filter": _NORMALISE,
    "update_worker_filter_stats": _NORMALISE,
    "use_worker_filter_stats": _NORMALISE,
    "sync_filters_on_rollout_workers_timeout_s": _NORMALISE,
    "restart_failed_sub_environments": _RESTARTS,
    "_env_to_module_connector": _CONNECTORS,
    "add_default_connectors_to_env_to_module_pipeline": _CONNECTORS,
    "_module_to_env_connector": _CONNECTORS,
    "add_default_connectors_to_module_to_env_pipeline": _CONNECTORS,
    "merge_env_runner_states": _CONNECTORS,
    "broadcast_env_runner_states": _CONNECTORS,
    "use_env_runner_state_server": _CONNECTORS,
    "env_runner_state_server_max_concurrency": _CONNECTORS,
    "enable_connectors": _CONNECTORS,
    # Exploration
    "explore": "evaluation is always greedy, training never",
    "exploration_config": _EXPLORATION,
    # Learning
    "framework_str": "it is always torch",
    "grad_clip_by": "gradients are clipped by their global norm",
    "train_batch_size": "use batch_size_episodes",
    "_train_batch_size_per_learner": "use batch_size_episodes",
    "minibatch_size": "use batch_size_episodes",
    "num_epochs": _UPDATE,
    "shuffle_batch_per_epoch": _UPDATE,
    "model": _NETWORK,
    "_model_config": _NETWORK,
    "_rl_module_spec": _NETWORK,
    "algorithm_config_overrides_per_module": _TEAM,
    "_learner_connector": _LEARNER,
    "_learner_class": _LEARNER,
    "add_default_connectors_to_learner_pipeline": _LEARNER,
    "learner_config_dict": _LEARNER,
    "num_aggregator_actors_per_learner": _LEARNER,
    "max_requests_in_flight_per_aggregator_actor": _LEARNER,
    "max_requests_in_flight_per_learner": _LEARNER,
    "local_gpu_idx": "set CUDA_VISIBLE_DEVICES",
    "log_gradients": "the results have learner/grad_norm",
    "torch_compile_learner": _LEARNER,
    "torch_compile_learner_what_to_compile": _LEARNER,
    "torch_compile_learner_dynamo_backend": _LEARNER,
    "torch_compile_learner_dynamo_mode": _LEARNER,
    "torch_compile_worker": _LEARNER,
    "torch_compile_worker_dynamo_backend": _LEARNER,
    "torch_compile_worker_dynamo_mode": _LEARNER,
    "torch_ddp_kwargs": _LEARNER,
    "torch_skip_nan_gradients": "a gradient that is not finite stops the run",
    "_torch_grad_scaler_class": _LEARNER,
    "_torch_lr_scheduler_classes": "use points: lr: [[0, 1e-3], [100_000, 1e-4]]",
    # Several policies
    "policies": _TEAM,
    "policy_mapping_fn": _TEAM,
    "policies_to_train": _TEAM,
    "policy_map_capacity": _TEAM,
    "policy_states_are_swappable": _TEAM,
    "policy_map_cache": _TEAM,
    "observation_fn": "use env_config: {state: ...}",
    "count_steps_by": "steps are env steps",
    # API stack
    "enable_rl_module_and_learner": _STACK,
    "enable_env_runner_and_connector_v2": _STACK,
    # Offline data
    "input_": _DATASET,
    "input_config": _DATASET,
    "input_evaluation": _DATASET,
    "input_read_method": _DATASET,
    "input_read_method_kwargs": _DATASET,
    "input_read_schema": _DATASET,
    "input_read_episodes": _DATASET,
    "input_read_sample_batches": _DATASET,
    "input_read_batch_size": _DATASET,
    "input_filesystem": _DATASET,
    "input_filesystem_kwargs": _DATASET,
    "input_compress_columns": _DATASET,
    "input_spaces_jsonable": _DATASET,
    "actions_in_input_normalized": _DATASET,
    "postprocess_inputs": _DATASET,
    "shuffle_buffer_size": _DATASET,
    "offline_data_class": _DATASET,
    "offline_sampling": _DATASET,
    "materialize_data": _DATASET,
    "materialize_mapped_data": _DATASET,
    "map_batches_kwargs": _DATASET,
    "iter_batches_kwargs": _DATASET,
    "ignore_final_observation": _DATASET,
    "prelearner_class": _DATASET,
    "prelearner_buffer_class": _DATASET,
    "prelearner_buffer_kwargs": _DATASET,
    "prelearner_module_synch_period": _DATASET,
    "prelearner_use_recorded_module_states": _DATASET,
    "dataset_num_iters_per_learner": "use updates_per_iteration",
    "output": _RECORD,
    "output_config": _RECORD,
    "output_compress_columns": _RECORD,
    "output_max_file_size": _RECORD,
    "output_max_rows_per_file": _RECORD,
    "output_write_remaining_data": _RECORD,
    "output_write_method": _RECORD,
    "output_write_method_kwargs": _RECORD,
    "output_filesystem": _RECORD,
    "output_filesystem_kwargs": _RECORD,
    "output_write_episodes": _RECORD,
    # Evaluation
    "evaluation_duration_unit": _EVALUATION,
    "evaluation_sample_timeout_s": _EVALUATION,
    "evaluation_auto_duration_min_env_steps_per_sample": _EVALUATION,
    "evaluation_auto_duration_max_env_steps_per_sample": _EVALUATION,
    "evaluation_parallel_to_training": "evaluation runs between iterations",
    "evaluation_unhealthy_workers_timeout_s": "use env_runner_restore_timeout_s",
    "evaluation_error_after_n_consecutive_skips": _EVALUATION,
    "evaluation_force_reset_envs_before_iteration": _EVALUATION,
    "custom_evaluation_function": "use callbacks: on_evaluate_end",
    "off_policy_estimation_methods": _OPE,
    "ope_split_batch_by_episode": _OPE,
    "offline_evaluation_interval": _OPE,
    "num_offline_eval_runners": _OPE,
    "offline_evaluation_type": _OPE,
    "offline_eval_runner_class": _OPE,
    "offline_loss_for_module_fn": _OPE,
    "offline_evaluation_duration": _OPE,
    "offline_evaluation_parallel_to_training": _OPE,
    "offline_evaluation_timeout_s": _OPE,
    "num_cpus_per_offline_eval_runner": _OPE,
    "num_gpus_per_offline_eval_runner": _OPE,
    "custom_resources_per_offline_eval_runner": _OPE,
    "restart_failed_offline_eval_runners": _OPE,
    "ignore_offline_eval_runner_failures": _OPE,
    "max_num_offline_eval_runner_restarts": _OPE,
    "offline_eval_runner_restore_timeout_s": _OPE,
    "max_requests_in_flight_per_offline_eval_runner": _OPE,
    "validate_offline_eval_runners_after_construction": _OPE,
    "offline_eval_runner_health_probe_timeout_s": _OPE,
    "offline_eval_rl_module_inference_only": _OPE,
    "broadcast_offline_eval_runner_states": _OPE,
    "offline_eval_batch_size_per_runner": _OPE,
    "dataset_num_iters_per_eval_runner": _OPE,
    "callbacks_on_evaluate_offline_start": _OPE,
    "callbacks_on_evaluate_offline_end": _OPE,
    "callbacks_on_offline_eval_runners_recreated": _OPE,
    # Checkpoints
    "export_native_model_files": _CHECKPOINTS,
    "checkpoint_trainable_policies_only": _CHECKPOINTS,
    "_use_msgpack_checkpoints": _CHECKPOINTS,
    # Names of older releases; their default is a mark for "not given"
    "buffer_size": _REPLAY,
    "learning_starts": _REPLAY,
    "prioritized_replay": _REPLAY,
    "prioritized_replay_alpha": _REPLAY,
    "prioritized_replay_beta": _REPLAY,
    "prioritized_replay_eps": _REPLAY,
    "replay_batch_size": _REPLAY,
    "replay_sequence_length": "use sequence_length",
    "replay_mode": _REPLAY,
    "evaluation_num_episodes": "use evaluation_duration",
    "metrics_smoothing_episodes": "use metrics_num_episodes_for_smoothing",
    "collect_metrics_timeout": "use metrics_episode_collection_timeout_s",
    "timesteps_per_iteration": "use min_sample_timesteps_per_iteration",
    "min_iter_time_s": "use min_time_s_per_iteration",
    "min_time_s_per_reporting": "use min_time_s_per_iteration",
    "min_train_timesteps_per_reporting": "use min_train_timesteps_per_iteration",
    "min_sample_timesteps_per_reporting": "use min_sample_timesteps_per_iteration",
    "env_task_fn": "change the environment in callbacks: on_train_result",
    "monitor": "use rllib evaluate --render-out",
    "worker_cls": "episodes are played by TeamRolloutWorker",
    "synchronize_filters": _NORMALISE,
    "enable_async_evaluation": "evaluation runs between iterations",
    "custom_async_evaluation_function": "use callbacks: on_evaluate_end",
    "auto_wrap_old_gym_envs": _OLD,
    "always_attach_evaluation_results": "results carry the last evaluation on",
}

# Keys that users of RLlib may set, although AlgorithmConfig has no such attribute; and
# what to use instead.
FOREIGN: dict[str, str] = {
    "replay_buffer_config": "use buffer_size_episodes",
    "store_buffer_in_checkpoints": "checkpoints always hold the replay",
    "train_batch_size_per_learner": "use batch_size_episodes",
    "local_mode": "Ray has none any more; use rllib train file --debug",
}

# Attributes of AlgorithmConfig, and why they are ignored.
IRRELEVANT: dict[str, str] = {
    **dict.fromkeys(
        (
            "eager_tracing",
            "eager_max_retraces",
            "tf_session_args",
            "local_tf_session_args",
            "enable_tf1_exec_eagerly",
            "_tf_policy_handles_more_than_one_loss",
        ),
        "TensorFlow",
    ),
    **dict.fromkeys(
        (
            "algo_class",
            "in_evaluation",
            "simple_optimizer",
            "stats_cls_lookup",
            "_is_frozen",
            "_is_online",
            "_is_atari",
            "_fake_gpus",
            "_prior_exploration_config",
            "_per_module_overrides",
            "_validate_config",
            "_disable_preprocessor_api",
            "_disable_action_flattening",
            "_disable_initialize_loss_from_dummy_batch",
            "_disable_execution_plan_api",
            "_dont_auto_sync_env_runner_states",
            "_enable_rl_module_api",
        ),
        "RLlib's own bookkeeping",
    ),
}

# Attributes whose keys in files and dicts have another name.
_KEYS: dict[str, str] = {
    "input_": "input",
    "framework_str": "framework",
    "callbacks_class": "callbacks",
    "_train_batch_size_per_learner": "train_batch_size_per_learner",
    "_rl_module_spec": "rl_module_spec",
    "_model_config": "model_config",
}


def key_of(attribute: str) -> str:
    """Returns the key by which users set an attribute of ``AlgorithmConfig``.

    Args:
        attribute: Name of the attribute, such as ``framework_str``.

    Returns:
        The key, such as ``framework``.
    """
    return _KEYS.get(attribute, attribute)


def attribute_of(key: str) -> str:
    """Returns the attribute of ``AlgorithmConfig`` that a key sets.

    Args:
        key: A key as :func:`key_of` returns it, such as ``framework``.

    Returns:
        Name of the attribute, such as ``framework_str``.
    """
    for attribute, name in _KEYS.items():
        if name == key:
            return attribute
    return key


# All refused keys by the names that users write, and what to use instead.
UNUSED_KEYS: dict[str, str] = {
    **{key_of(name): text for name, text in REFUSED.items()},
    **FOREIGN,
}
