# The Visual Decathlon suite. `make bench METHOD=res_adapter` runs it; README.md says the rest.
# The first call makes .venv from pyproject.toml under the pins of requirements.lock.

PYTHON ?= python3
PY := .venv/bin/python

# variable -> option, only where it is given; quotes in it reach the command
quoted = '$(subst ','\'',$(1))'
option = $(if $($(1)),--$(2) $(call quoted,$($(1))))
# variable -> something where it is switched on
on = $(filter $(yes),$($(1)))
blank := $(subst ,, )
yes = 1 true True TRUE yes Yes YES
no = 0 false False FALSE no No NO
folders = $(call option,RESULTS,results) $(call option,CACHE,cache)
runs = $(if $(RERUN),$(call option,METHOD,method),--method $(call quoted,$(METHOD))) \
  $(call option,DATA,data) $(call option,BACKBONE,backbone) \
  $(call option,PROFILE,profile) $(call option,SET,set) $(call option,SPLIT,split) $(call option,SEEDS,seeds) \
  $(call option,DOMAINS,domains) $(call option,OWN,own) $(call option,LIMIT,limit) \
  $(call option,DEVICE,device)

# The variables of this call, from the command line or the environment, quoted for a shell: records keep them.
variables = RERUN METHOD DATA BACKBONE PROFILE SET SPLIT SEEDS DOMAINS OWN LIMIT DEVICE WORKERS ENGINE PREDICTIONS \
  WIDTH NETWORK SIZE DOWNLOAD SHEET FROM SEED OUT ONLY LIMITED RESULTS CACHE
export BENCH_COMMAND = make $@ $(foreach name,$(variables),$(if $($(name)),$(name)=$(call quoted,$(value $(name)))))

# The variables that each target reads. A variable that none of the wanted targets reads is refused.
reads_sum = METHOD DATA BACKBONE PROFILE SET SPLIT SEEDS DOMAINS OWN LIMIT DEVICE RESULTS CACHE
reads_rerun = RERUN DATA BACKBONE OWN DEVICE RESULTS CACHE
reads_bench = RERUN $(reads_sum) WORKERS ENGINE RAY_ADDRESS PLAN PREDICTIONS
reads_test = SLOW
reads_lint =
reads_methods = WIDTH NETWORK
reads_data = DATA OWN DOWNLOAD SHEET RESULTS CACHE
reads_results = FROM ONLY LIMITED RESULTS CACHE
reads_compare = A B FROM RESULTS CACHE
reads_submit = METHOD FROM DATA PROFILE SEED OUT RESULTS CACHE
reads_score = FILE DATA LABELS
reads_sweep = METHOD PROFILE RESULTS CACHE
reads_perf = ONLY RESULTS CACHE
reads_efficiency = NETWORK SIZE ONLY DEVICE FROM RESULTS CACHE
reads_networks = NETWORK RESULTS CACHE
reads_gpu = GPU_PYTHON ONLY RESULTS CACHE
reads_growth = ONLY RESULTS CACHE
targets = bench sum test lint methods data results compare submit score sweep perf networks efficiency gpu growth
switches = PLAN PREDICTIONS LIMITED SLOW

# The profile's options that SET= takes, and those of a recipe, which it takes with pretrain. before them, too.
settings = network width resize crop uncropped_size precision backbone_seed compile deterministic $(recipe)
recipe = epochs batch weight_decay schedule lr momentum nesterov label_smoothing warmup_fraction milestones norm_head_decay decay_leak
# Other names of variables and settings here, as `other:here`.
others = batch_size:batch learning_rate:lr decay:weight_decay smoothing:label_smoothing warm:warmup_fraction \
  drops:milestones shorter:resize whole:uncropped_size amp:precision dtype:precision gpu:DEVICE \
  cuda:DEVICE settings:SET num_workers:WORKERS datasets:DOMAINS

wanted = $(or $(MAKECMDGOALS),bench)
reads_now = $(if $(RERUN),$(reads_$(1:bench=rerun)),$(reads_$(1)))
reads = $(sort $(foreach target,$(wanted),$(call reads_now,$(target))))
always = PYTHON SHELL MAKE MAKEFLAGS MFLAGS GNUMAKEFLAGS V VERBOSE
unread = $(filter-out $(reads) $(always),$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v))))
# A variable of the environment may belong to another program: only these are mistakes, as `given:meant`.
mistaken = SEED:SEEDS SEEDS:SEED DOMAIN:DOMAINS SPLITS:SPLIT METHODS:METHOD PROFILES:PROFILE LIMITS:LIMIT \
  BACKBONES:BACKBONE PREDICTION:PREDICTIONS EPOCH:SET EPOCHS:SET BATCH_SIZE:SET LEARNING_RATE:SET SETTINGS:SET
near_miss = $(and $(filter $(reads),$(lastword $(1))),$($(firstword $(1))),$(filter environment,\
  $(origin $(firstword $(1)))),$(firstword $(1)))
around = $(strip $(filter-out $(reads),$(foreach pair,$(mistaken),$(call near_miss,$(subst :, ,$(pair))))))
near = $(shell $(PYTHON) -c 'import difflib, sys; name, reads, settings, recipe, others = sys.argv[1:]; \
  known = {s: f"SET={s}=" for s in settings.split() if "SET" in reads.split()}; \
  known.update({"pretrain." + s: f"SET=pretrain.{s}=" for s in recipe.split() if s in known}); \
  known.update({r.lower(): r + "=" for r in reads.split()}); \
  pairs = [pair.split(":") for pair in others.split()]; \
  known.update({other: known[here.lower()] for other, here in pairs if here.lower() in known and other not in known}); \
  close = difflib.get_close_matches(name.lower().replace("-", "_"), known, 1, 0.7); \
  print(*[f" (did you mean {known[c]}?)" for c in close])' \
  $(call quoted,$(1)) '$(reads)' '$(settings)' '$(recipe)' '$(others)' 2>/dev/null)

# These checks come before any command. A goal that is no target is a typo, or a variable whose name has a blank.
unknown = $(filter-out $(targets) .venv/made,$(wanted))
ifneq ($(and $(unknown),$(or $(findstring =,$(unknown)),$(filter $(targets),$(wanted)))),)
$(error make has no target $(unknown); it has $(targets)$(if \
  $(findstring =,$(unknown)), (the name of a variable has no blanks)))
endif
ifeq ($(unknown),)
ifneq ($(strip $(unread) $(around)),)
$(error make $(wanted)$(if $(RERUN),$(if $(filter RERUN,$(reads)), with RERUN=)) does not read $(foreach name,$(sort $(unread) $(around)),$(name)=$(call near,$(name))); $(if \
  $(reads),it reads $(reads),it reads no variables)$(if $(around), (unset $(around) in the environment)))
endif
$(foreach name,$(filter $(switches),$(reads)),$(if $(filter-out $(yes) $(no),$(subst $(blank),_,$(strip $($(name))))),\
  $(error $(name)=$(value $(name)) is neither on nor off; give 1, true or yes, or 0, false or no)))
endif

.PHONY: $(targets)

bench: .venv/made
	@$(PY) -m benchmark $(if $(RERUN),rerun $(call quoted,$(RERUN)),run) $(runs) $(call option,WORKERS,workers) \
	  $(call option,ENGINE,engine) $(if $(call on,PLAN),--plan) \
	  $(if $(call on,PREDICTIONS),--predictions) $(folders)

sum: .venv/made
	@$(PY) -m benchmark sum $(runs) $(folders)

# The tests of a file stay in one process, so that their fixtures are built once. Each process uses one thread.
test: .venv/made
	@$(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile $(if $(call on,SLOW),,-m 'not slow')

lint: .venv/made
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

methods: .venv/made
	@$(PY) -m benchmark methods $(call option,WIDTH,width) $(call option,NETWORK,network)

data: .venv/made
	@$(PY) -m benchmark data $(call option,DATA,data) $(call option,OWN,own) $(call option,DOWNLOAD,download) \
	  $(call option,SHEET,sheet) $(folders)

results: .venv/made
	@$(PY) -m benchmark tables $(call option,FROM,from) $(call option,ONLY,only) \
	  $(if $(call on,LIMITED),--limited) $(folders)

compare: .venv/made
	@$(PY) -m benchmark compare $(call quoted,$(A)) $(call quoted,$(B)) $(call option,FROM,from) $(folders)

submit: .venv/made
	@$(PY) -m benchmark submit --method $(call quoted,$(METHOD)) $(call option,FROM,from) $(call option,DATA,data) \
	  $(call option,PROFILE,profile) $(call option,SEED,seed) $(call option,OUT,out) $(folders)

score: .venv/made
	@$(PY) -m benchmark score --file $(call quoted,$(FILE)) $(call option,DATA,data) $(call option,LABELS,labels)

sweep: .venv/made
	@$(PY) -m benchmark sweep --method $(call quoted,$(or $(METHOD),all)) $(call option,PROFILE,profile) $(folders)

perf: .venv/made
	@$(PY) -m benchmark perf $(call option,ONLY,only) $(folders)

efficiency: .venv/made
	@$(PY) -m benchmark efficiency $(call option,NETWORK,network) $(call option,SIZE,size) \
	  $(call option,ONLY,only) $(call option,DEVICE,device) $(call option,FROM,from) $(folders)

networks: .venv/made
	@$(PY) -m benchmark networks $(call option,NETWORK,network) $(folders)

# GPU_PYTHON=python3 runs the machine's own Python with its PYTHONPATH: then .venv is neither made nor needed.
gpu: $(if $(GPU_PYTHON),,.venv/made)
	@$(if $(GPU_PYTHON),$(call quoted,$(GPU_PYTHON)),$(PY)) -m benchmark gpu $(call option,ONLY,only) $(folders)

growth: .venv/made
	@$(PY) -m benchmark growth $(call option,ONLY,only) $(folders)

# uv if it is installed, else venv and pip. The mark is written last, so that a broken installation is repeated.
.venv/made: pyproject.toml requirements.lock
	@echo "making .venv (once; a few minutes)"
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  uv pip install --quiet --python $(PY) -c requirements.lock -e '.[test]'; \
	else \
	  $(PYTHON) -m venv .venv && $(PY) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[test]'; \
	fi
	@touch $@
