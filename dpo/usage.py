"""What `python -m dpo <command> --help` says; {groups} stands for the groups and their choices."""

TRAIN = """\
Trains a causal language model by Direct Preference Optimization.

  accelerate launch train.py [group=choice ...] [group.setting=value ...]

  accelerate launch train.py                                          built-in tiny model and demo pairs
  accelerate launch train.py model.path=my-sft-model data.path=pairs.jsonl
  accelerate launch train.py model=qwen7b adapter=lora                UltraFeedback, LoRA, one GPU
  torchrun --nproc_per_node 8 train.py model=qwen7b zero=zero3        the same with any launcher

Other commands: python -m dpo --help

Groups and their choices:
{groups}

Top-level settings: name, seed, resume=auto|never|<folder>, output_dir, precision=fp32|bf16|fp16, layout=packed|padded

Options:
  --help, -h    this text
  --cfg         print every setting of the composed run with its value, and stop

Every setting is explained in dpo/config/schema.py; the files under conf/ show what each choice sets.
"""

PLAN = """\
Says before a run is queued whether it fits and how long it takes: memory per GPU by part, host memory, disk,
operations, traffic, time and cost. No GPU, no weights; no network where the model is on this machine or conf/model
states its shape.

  python -m dpo plan model=qwen7b zero=zero3 plan.gpus=8 plan.gpu=h100-80gb plan.pairs=61135
  python -m dpo plan model=qwen7b plan.gpus=8 plan.search=true plan.goal=cheapest
  python -m dpo plan model=qwen72b plan.scaling=true

  plan.gpu=a10g|rtx4090|l40s|a100-40gb|a100-80gb|h100-80gb|h200-141gb|b200|mi300x
  plan.gpus, plan.gpus_per_node, plan.network_gbps, plan.host_gib     the machines
  plan.pairs, plan.prompt_tokens, plan.answer_tokens                  the data, where `dpo report` has not measured it
  plan.efficiency=0.45             share of the GPU's matrix throughput that you measured
  plan.search=true                 micro-batch, ZeRO stage, offload, checkpointing, shared rows, number of GPUs
  plan.scaling=true                the same run on 8 to 1024 GPUs

Settings are those of train.py (python -m dpo train --help), which prints the short form when it starts.
"""

PREPARE = """\
Reads, checks and tokenizes the pairs of a run, in parallel, and keeps them: no weights, no GPU. train.py does the same
by itself before its first step; alone it serves a sweep, or a machine with many cores and no GPU.

  python -m dpo prepare model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo prepare model=qwen7b data.cache_dir=/shared/data data.workers=16

Settings are those of train.py (python -m dpo train --help). Only those of the data, the tokenizer and the chat template
decide what is found again. Exit code 1 when rows are bad and data.on_bad_row is not skip.
"""

REFERENCE = """\
Computes the reference log-probabilities that a run will need and keeps them: no policy, no optimizer. train.py does
the same by itself before its first step; alone it serves a sweep, or fills a cache on other machines.

  python -m dpo reference model.path=my-sft-model data.path=pairs.jsonl
  torchrun --nproc_per_node 8 -m dpo reference model=qwen7b reference.cache_dir=/shared/reference

Settings are those of train.py (python -m dpo train --help). Only those of the data, the reference's weights and
precision= decide what is found again. A pass that was stopped or killed continues where it was. Exit code 75: stopped
on request.
"""

CACHE = """\
Shows and clears the reference log-probabilities that were kept.

  python -m dpo cache ls                      one line per model and precision
  python -m dpo cache verify [<digits>|all]   read everything again; exit code 1 when a part is damaged
  python -m dpo cache rm <digits>|all         remove: the first digits of a fingerprint that `ls` shows

  reference.cache_dir=<folder>                another cache than outputs/reference_cache
"""

PLAN_STEP = """\
Shows the pairs of one optimizer step: their ids, tokens and places in the data, which worker computes them in which
forward pass, and how full that is. Reads the data and the tokenizer; no weights are loaded, nothing is trained.

  python -m dpo plan-step 137 model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo plan-step 137 8 model=qwen7b       as 8 workers share it out

Steps are counted as in metrics.jsonl: 1 is the first, and "batch" there is the batch shown here. The pairs of a step
and their order depend on seed, data and optim.global_batch_size alone; only their places on the number of workers.
Settings are those of train.py (python -m dpo train --help).
"""

CHECKPOINTS = """\
Shows, reads and removes the checkpoints of runs.

  python -m dpo checkpoints ls [<run folder>]       step, size, whether all files are there, held-out metric, age
  python -m dpo checkpoints verify [<run folder>]   read every file again; exit code 1 when one is damaged
  python -m dpo checkpoints prune <run folder>      keep the newest and the best that are whole, remove the others

  <run folder>                     as outputs/<name>; name=<name> says the same; without: every run in outputs
  output_dir=<folder>              another folder of runs
  checkpoint.keep=<n>              prune: how many of the newest stay
  checkpoint.best=<metric>|null    ls, prune: loss, rewards/accuracies or rewards/margins
"""

SWEEP = """\
Starts one run per combination of values, one after the other, and compares what came of them: a table and a picture.
Every run is a launch of its own, since DeepSpeed can be set up once per process. All are composed and checked before
the first begins; the reference is computed once for all. The same command again continues what was stopped.

  python -m dpo sweep model.path=my-sft-model data.path=pairs.jsonl loss=sigmoid,ipo loss.beta=0.05,0.1,0.5
  LAUNCH="torchrun --nproc_per_node 8 train.py" python -m dpo sweep model=qwen7b optim.lr=3e-7,5e-7,1e-6

  name=<name>      beginning of the runs' names (sweep): outputs/<name>-ipo-beta0.1
  LAUNCH           environment: what starts a run, launch/local.sh without it

Settings are those of train.py (python -m dpo train --help).
"""

SUBMIT = """\
Puts a run into the queue of a Slurm cluster: checks all settings first, writes the batch script, submits it. The job
stops with a checkpoint before its time is up, queues itself again and continues. docs/CLUSTER.md explains it.

  python launch/submit.py launch.partition=gpu model=qwen7b data.path=pairs.jsonl
  python launch/submit.py launch=mine launch.nodes=4 launch.time=12:00:00 model=qwen7b --dry-run
  python launch/submit.py sweep launch=mine model=qwen7b loss=sigmoid,ipo loss.beta=0.05,0.1
  python launch/submit.py launch.after=1234 name=second model.path=outputs/first/final

  launch=<site>          conf/launch/<site>.yaml (default); copy one for your own cluster
  launch.<setting>=...   dpo/config/launch.py lists them: nodes, gpus_per_node, time, account, container, ...
  --dry-run              print the script and submit nothing

  train                  without a word; reference: `python -m dpo reference`, as a job
  sweep                  the reference once, then an array with one job per combination of values

All other settings are those of train.py (python -m dpo train --help). Keys come from the environment (HF_TOKEN,
WANDB_API_KEY), which Slurm hands to the job; a script or a setting never holds one.
"""

COMPARE = """\
Shows finished runs beside each other: the settings in which they differ, their last held-out numbers, and a picture in
outputs/comparison.png.

  python -m dpo compare outputs/sweep-*

  output_dir=<folder>      another place for the picture
"""

STATUS = """\
Shows in one line how far a run is and how its last launch ended; the exit code says it to scripts: 0 done, 1 failed or
never begun, 3 stopped on request, 4 running, 75 stopped because its time was up (SIGUSR1 or checkpoint.deadline): the
same launch continues.

  python -m dpo status outputs/mine
  python -m dpo status model.path=my-sft-model data.path=pairs.jsonl      the run that these settings would continue
"""

VERIFY = """\
Compares the held-out numbers that a finished run ends with to those that its experiment expects (`expect:` in
conf/experiment/<name>.yaml): a table, and settings in which the run differs from the experiment. Exit code 1 when a
number lies outside its band.

  python -m dpo verify outputs/zephyr                           the experiment that it was started with
  python -m dpo verify outputs/zephyr experiment=zephyr-7b      this one
"""

REPORT = """\
Looks at the data before GPU hours are spent on it: what lengths give away, contradictions, repetition, refusals,
languages, limits, and the pairs to read. Writes one HTML page, and a JSON file with the same numbers. Reads the data
and the tokenizer; no weights are loaded, nothing is trained.

  python -m dpo report model.path=my-sft-model data.path=pairs.jsonl
  python -m dpo report model=qwen7b data=ultrafeedback data.limit=5000

  output_dir=<folder>              writes to <folder>/data_reports instead of outputs/data_reports

Settings are those of train.py (python -m dpo train --help). Rows that cannot be used are counted and shown, and do not
stop the report.
"""

DOCTOR = """\
Checks this node before a job: one line per finding, ok, warn or fail with the cure. It takes a minute at most, whatever
hangs, and starts no training.

  python -m dpo doctor                                            what every run needs
  python -m dpo doctor doctor.gpus=8 model=qwen7b output_dir=/shared/outputs
  srun --ntasks-per-node=1 python -m dpo doctor doctor.json=-     every node of a Slurm job

versions    Python and packages: inside their ranges, and those of constraints.txt
gpus        number, memory, what else runs on them, memory errors, heat (nvidia-smi)
driver      torch computes on each of them with this driver
allreduce   speed at which the local workers sum: NCCL on GPUs, gloo on a CPU
compiler    compiles, loads and runs a small op, as DeepSpeed does at its first use
disk        room, speed, locks where the run writes
shm         room in /dev/shm, through which local workers exchange
limits      ulimit: open files, processes, locked memory
memory      what is free, of the machine or of the container
cpus        cores that may be used
host        its own name and MASTER_ADDR resolve
proxies     those of the environment answer
wandb       server and key, when the run logs online
hub         models and data that must still come, and the way to them
clock       against a server's, and against the file server's

  doctor.checks=[gpus,disk]    these alone
  doctor.path=<folder>         the disk of this folder instead of output_dir
  doctor.gpus=<n>              the number that the node must have
  doctor.free_gb=<n>           room that must be left at the output, GB
  doctor.strict=true           warnings fail as well
  doctor.json=<file>|-         the findings as JSON, also or (-) instead

Exit code: 0 fit (warnings too), 1 not fit, 2 wrong settings. Settings are those of train.py (python -m dpo train
--help): offload, tracking, models and data of a run decide what its node needs.
"""
