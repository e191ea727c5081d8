#!/usr/bin/env bash
# Chromium and its driver, for the tests that open the report in a real browser. Needs Debian or Ubuntu and root; does nothing where both are there.
set -euo pipefail
if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
  exit 0
fi
export DEBIAN_FRONTEND=noninteractive
packages=(chromium chromium-driver)
apt-get install -y --no-install-recommends "${packages[@]}" || { apt-get update && apt-get install -y --no-install-recommends "${packages[@]}"; }
