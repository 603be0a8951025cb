#!/usr/bin/env bash
# Terraform, where it is on the machine: what tofu.sh does. That finds its tool by the name of the script that was started.
. "$(dirname "$0")/tofu.sh"
