# The two commands of the README, and what they need. The real build is CMake's (CMakePresets.json).
BUILD := build/release
DEMO_PROMPT ?= What is nemo?

.PHONY: demo test deps build

# Builds, converts the bundled checkpoint and answers a prompt that is piped in.
demo: build
	$(BUILD)/nemo-convert assets/demo $(BUILD)/demo.gguf --type Q8_0 --force
	echo "$(DEMO_PROMPT)" | $(BUILD)/nemo-cli -m $(BUILD)/demo.gguf

build: deps
	cmake --preset release
	cmake --build $(BUILD) --target nemo-cli nemo-convert

test: deps
	cmake --preset release
	cmake --build $(BUILD)
	ctest --test-dir $(BUILD) --output-on-failure

# Installs what is missing from Debian.
deps:
	@./cmake/install_deps.sh
