# The Visual Decathlon suite. `make bench METHOD=res_adapter` runs it; README.md says the rest.
# The first call makes .venv from pyproject.toml under the pins of requirements.lock.

PYTHON ?= python3
PY := .venv/bin/python

# variable -> option, only where it is given; quotes in it reach the command
quoted = '$(subst ','\'',$(1))'
option = $(if $($(1)),--$(2) $(call quoted,$($(1))))
folders = $(call option,RESULTS,results) $(call option,CACHE,cache)
runs = $(if $(RERUN),$(call option,METHOD,method),--method $(call quoted,$(METHOD))) \
  $(call option,DATA,data) $(call option,BACKBONE,backbone) \
  $(call option,PROFILE,profile) $(call option,SET,set) $(call option,SPLIT,split) $(call option,SEEDS,seeds) \
  $(call option,DOMAINS,domains) $(call option,OWN,own) $(call option,LIMIT,limit) \
  $(call option,DEVICE,device)

# What was asked for, from the command line or the environment, as a shell takes it again: for the records.
variables = RERUN METHOD DATA BACKBONE PROFILE SET SPLIT SEEDS DOMAINS OWN LIMIT DEVICE WORKERS PREDICTIONS \
  WIDTH NETWORK DOWNLOAD SHEET FROM SEED OUT ONLY RESULTS CACHE
export BENCH_COMMAND = make $@ $(foreach name,$(variables),$(if $($(name)),$(name)=$(call quoted,$(value $(name)))))

# What each target reads. A variable given to make that none of the wanted targets reads is refused.
reads_sum = METHOD DATA BACKBONE PROFILE SET SPLIT SEEDS DOMAINS OWN LIMIT DEVICE RESULTS CACHE
reads_bench = RERUN $(reads_sum) WORKERS PREDICTIONS
reads_test = SLOW
reads_lint =
reads_methods = WIDTH NETWORK
reads_data = DATA OWN DOWNLOAD SHEET RESULTS CACHE
reads_results = FROM ONLY RESULTS CACHE
reads_compare = A B FROM RESULTS CACHE
reads_submit = METHOD FROM DATA PROFILE SEED OUT RESULTS CACHE
reads_score = FILE DATA LABELS
reads_sweep = METHOD RESULTS CACHE
reads_perf = ONLY RESULTS CACHE
reads_growth = ONLY RESULTS CACHE
targets = bench sum test lint methods data results compare submit score sweep perf growth
settings = epochs batch lr decay width crop shorter network precision compile smoothing momentum backbone_seed

wanted = $(or $(MAKECMDGOALS),bench)
reads = $(sort $(foreach target,$(wanted),$(reads_$(target))))
always = PYTHON SHELL MAKE MAKEFLAGS MFLAGS GNUMAKEFLAGS V VERBOSE
unread = $(filter-out $(reads) $(always),$(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $(v))),$(v))))
near = $(shell $(PYTHON) -c 'import difflib, sys; name, reads, settings = sys.argv[1:]; \
  known = {s: f"SET={s}=" for p in ("", "pretrain.") for s in map(p.__add__, settings.split()) if "SET" in reads}; \
  known.update({r.lower(): r + "=" for r in reads.split()}); \
  found = difflib.get_close_matches(name.lower(), known, 1, 0.7); \
  print(*[f" (did you mean {known[f]}?)" for f in found])' $(call quoted,$(1)) '$(reads)' '$(settings)' 2>/dev/null)
ifeq ($(filter-out $(targets),$(wanted)),)
ifneq ($(strip $(unread)),)
$(error make $(wanted) does not read $(foreach name,$(unread),$(name)=$(call near,$(name))); it reads $(or $(reads),none))
endif
endif

.PHONY: $(targets)

bench: .venv/made
	@$(PY) -m benchmark $(if $(RERUN),rerun $(call quoted,$(RERUN)),run) $(runs) $(call option,WORKERS,workers) \
	  $(if $(PREDICTIONS),--predictions) $(folders)

sum: .venv/made
	@$(PY) -m benchmark sum $(runs) $(folders)

# A file's tests stay in one process: what it builds is built once. Each process computes in one thread.
test: .venv/made
	@$(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile $(if $(SLOW),,-m 'not slow')

lint: .venv/made
	@$(PY) -m ruff check . && $(PY) -m ruff format --check .

methods: .venv/made
	@$(PY) -m benchmark methods $(call option,WIDTH,width) $(call option,NETWORK,network)

data: .venv/made
	@$(PY) -m benchmark data $(call option,DATA,data) $(call option,OWN,own) $(call option,DOWNLOAD,download) \
	  $(call option,SHEET,sheet) $(folders)

results: .venv/made
	@$(PY) -m benchmark tables $(call option,FROM,from) $(call option,ONLY,only) $(folders)

compare: .venv/made
	@$(PY) -m benchmark compare $(call quoted,$(A)) $(call quoted,$(B)) $(call option,FROM,from) $(folders)

submit: .venv/made
	@$(PY) -m benchmark submit --method $(call quoted,$(METHOD)) $(call option,FROM,from) $(call option,DATA,data) \
	  $(call option,PROFILE,profile) $(call option,SEED,seed) $(call option,OUT,out) $(folders)

score: .venv/made
	@$(PY) -m benchmark score --file $(call quoted,$(FILE)) $(call option,DATA,data) $(call option,LABELS,labels)

sweep: .venv/made
	@$(PY) -m benchmark sweep --method $(call quoted,$(or $(METHOD),all)) $(folders)

perf: .venv/made
	@$(PY) -m benchmark perf $(call option,ONLY,only) $(folders)

growth: .venv/made
	@$(PY) -m benchmark growth $(call option,ONLY,only) $(folders)

# uv where it is there, plain venv and pip otherwise. The mark is written last: a broken install is made again.
.venv/made: pyproject.toml requirements.lock
	@echo "making .venv (once; a few minutes)"
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) .venv && \
	  uv pip install --quiet --python $(PY) -c requirements.lock -e '.[test]'; \
	else \
	  $(PYTHON) -m venv .venv && $(PY) -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[test]'; \
	fi
	@touch $@
