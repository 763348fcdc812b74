# Sourced by the scripts that load every file of configs/: fine-tuning begins from folders that are not
# here, and their configurations stand in.
# shellcheck shell=bash

# base_of FILE: model.from=FOLDER with the configurations of the model that FILE fine-tunes; or nothing
base_of() {
    sed -nE "s#^  from: models/([^ ]+)-Diffusers( .*)?\$#model.from=$PWD/tests/fixtures/wan_public/\1#p" "$1"
}
