#!/bin/bash
# Signed checkpoints from the key on: made with the openssl command, signed by train, checked by
# verify, resume and infer; and everything that must be refused, alone and on two ranks.
# shellcheck disable=SC2016,SC2034,SC2317 # conditions are expressions that `check` evaluates
set -u
# shellcheck source=tests/e2e/refuse_support.sh
. tests/e2e/refuse_support.sh
run=$work/run keys=$work/keys
last=$run/checkpoints/step-00000006

# make_key NAME: $keys/NAME.pem and its public half $keys/NAME.pub, as the README does it
make_key() {
    (
        umask 077
        openssl ecparam -name prime256v1 -genkey -noout -out "$keys/$1.pem"
        openssl ec -in "$keys/$1.pem" -pubout -out "$keys/$1.pub" 2> /dev/null
    )
}

# verified RANKS ARGUMENT...: runs verify; leaves code, printed, said
verified() {
    attempt "$1" verify "${@:2}"
    printed=$(cat "$work/stdout")
}

# check NAME CONDITION...: one condition a word, each a bash expression
check() {
    local name=$1 condition
    shift
    for condition in "$@"; do
        eval "$condition" || { not_ok "$name" "$condition (code $code: ${said:0:400})"; return; }
    done
    ok "$name"
}
lines() { grep -c . <<< "$said"; }
says() { [ "$(grep -cF -- "$1" <<< "$said")" = 1 ]; }

# flip FILE: changes its last byte
flip() {
    local size old
    size=$(stat -c %s "$1")
    old=$(od -An -tu1 -j $((size - 1)) -N 1 "$1")
    # shellcheck disable=SC2059 # the byte is the format
    printf "\\x$(printf %02x $(((old + 1) % 256)))" | dd of="$1" bs=1 seek=$((size - 1)) conv=notrunc status=none
}

# copy_of CHECKPOINT: a fresh copy at $work/copy
copy_of() {
    rm -rf "$work/copy"
    cp -r "$1" "$work/copy"
}

mkdir "$keys"
for name in owner other; do make_key $name; done
make_dataset
trusted=(checkpoint.require_signature=true "checkpoint.trusted_keys=[$keys/owner.pub]")
infer=(infer --model "$run" --prompt "a test picture" "${small_video[@]}" --out "$work/v.mp4" --threads 1)

# ---- a bad key is found before anything is done --------------------------------------------------

cp "$keys/owner.pem" "$keys/open.pem"
chmod 644 "$keys/open.pem"
(umask 077 && openssl genrsa -out "$keys/rsa.pem" 2048 2> /dev/null)
(umask 077 && openssl ec -in "$keys/owner.pem" -aes256 -passout pass:x -out "$keys/locked.pem" 2> /dev/null)
refused a_key_that_others_may_read_is_refused 3 "chmod 600" "${small_train[@]}" checkpoint.sign="$keys/open.pem"
refused a_missing_key_is_refused 3 "none.pem" "${small_train[@]}" checkpoint.sign="$keys/none.pem"
refused a_key_of_another_kind_is_refused 3 "P-256" "${small_train[@]}" checkpoint.sign="$keys/rsa.pem"
refused a_locked_key_is_refused 3 "passphrase" "${small_train[@]}" checkpoint.sign="$keys/locked.pem"
refused a_public_key_cannot_sign 3 "holds no private key" "${small_train[@]}" checkpoint.sign="$keys/owner.pub"
refused a_private_key_is_no_trusted_one 3 "holds a private key" "${small_train[@]}" \
    checkpoint.require_signature=true "checkpoint.trusted_keys=[$keys/owner.pem]"
refused requiring_needs_keys 2 "checkpoint.trusted_keys" "${small_train[@]}" checkpoint.require_signature=true
refused keys_need_requiring 2 "checkpoint.require_signature is false" "${small_train[@]}" "checkpoint.trusted_keys=[$keys/owner.pub]"
refused a_run_must_trust_itself 2 "could not resume" "${small_train[@]}" checkpoint.sign="$keys/other.pem" "${trusted[@]}"
check nothing_was_begun '[ ! -e "$run" ]'

# ---- signing and verifying -----------------------------------------------------------------------

works a_run_signs_its_checkpoints "${small_train[@]}" checkpoint.sign="$keys/owner.pem" train.steps=4
attempt 2 "${small_train[@]}" checkpoint.sign="$keys/owner.pem" "${trusted[@]}"
check two_ranks_resume_from_what_is_signed '[ $code = 0 ]' \
    'grep -q "resumed from .*step-00000004" "$work/stderr"' '[ -f "$last/model.sig" ]'
for ranks in 1 2; do
    verified $ranks "$last"
    check "verify_says_what_it_did_not_check_on_$ranks" '[ $code = 0 ]' '[[ $printed = *"signature not checked"* ]]'
    verified $ranks "$run" --key "$keys/other.pub" --key "$keys/owner.pub"
    check "all_checkpoints_of_a_run_verify_on_$ranks" '[ $code = 0 ]' \
        '[[ $printed = "ok: "*"signed by $keys/owner.pub" ]]' '[ "$(wc -l <<< "$printed")" = 1 ]'
    verified $ranks "$last" --key "$keys/other.pub"
    check "another_key_does_not_verify_on_$ranks" '[ $code = 3 ]' '[ -z "$printed" ]' \
        'says "none of the 1 trusted"' '[ "$(lines)" = 2 ]'
    copy_of "$last"
    for file in transformer/config.json codec/linear_codec.safetensors text_encoder/model.safetensors state.json; do
        flip "$work/copy/$file"
    done
    rm "$work/copy/config.yaml"
    verified $ranks "$work/copy" --key "$keys/owner.pub"
    check "each_damaged_file_is_named_once_on_$ranks" '[ $code = 3 ]' '[ -z "$printed" ]' '[ "$(lines)" = 6 ]' \
        'says "copy/transformer/config.json: is damaged"' 'says "linear_codec.safetensors: is damaged"' \
        'says "text_encoder/model.safetensors: is damaged"' 'says "state.json: is damaged"' \
        'says "config.yaml: is missing"' 'says "5 problems"'
    # who can write the manifest too: only the signature tells
    copy_of "$last"
    old=$(sha256sum < "$work/copy/state.json")
    flip "$work/copy/state.json"
    new=$(sha256sum < "$work/copy/state.json")
    sed -i "s/${old%% *}/${new%% *}/" "$work/copy/manifest.json"
    root=$(sed -n 's/ *"\([^"]*\)": {$/\1/p' "$work/copy/manifest.json" | grep -v '^files$' |
        (cd "$work/copy" && xargs sha256sum) | sha256sum)
    sed -i "s/\"root_sha256\": \"[0-9a-f]*\"/\"root_sha256\": \"${root%% *}\"/" "$work/copy/manifest.json"
    verified $ranks "$work/copy"
    check "a_manifest_made_anew_verifies_without_a_key_on_$ranks" '[ $code = 0 ]'
    verified $ranks "$work/copy" --key "$keys/owner.pub"
    check "but_not_with_one_on_$ranks" '[ $code = 3 ]' 'says "state.json: was changed"' \
        'says "manifest.json: was changed"' '[ "$(lines)" = 3 ]'
done
# a step that stands there unsigned is written again by a run that signs
half=(run.dir="$work/half")
attempt 1 "${small_train[@]}" "${half[@]}" checkpoint.sign="$keys/owner.pem" train.schedule=constant train.steps=4
attempt 1 "${small_train[@]}" "${half[@]}" train.schedule=constant
check half_signed '[ $code = 0 ]' '[ ! -e "$work/half/checkpoints/step-00000006/model.sig" ]'
attempt 1 "${small_train[@]}" "${half[@]}" train.schedule=constant checkpoint.sign="$keys/owner.pem" "${trusted[@]}"
check a_step_saved_unsigned_is_saved_again '[ $code = 0 ]' 'grep -q "resumed from .*step-00000004" "$work/stderr"' \
    '[ -f "$work/half/checkpoints/step-00000006/model.sig" ]'

verified 1 "$data" --key "$keys/owner.pub"
check a_dataset_has_no_signature '[ $code = 2 ]' 'says "which has no signature"'
verified 2 "$data"
check two_ranks_verify_a_dataset '[ $code = 0 ]' '[ "$(wc -l <<< "$printed")" = 1 ]'

# two hosts whose file systems differ: under one name a run here, a dataset there
mkdir "$work/host0" "$work/host1"
ln -s "$run" "$work/host0/it"
ln -s "$data" "$work/host1/it"
timeout -k 5 $limit_s mpirun -n 2 env WORK="$work" PROGRAM="$(realpath "$ZOETROPE")" \
    bash -c 'cd "$WORK/host$OMPI_COMM_WORLD_RANK" && exec "$PROGRAM" verify it' > "$work/stdout" 2> "$work/stderr" < /dev/null
code=$? said=$(cat "$work/stderr")
check ranks_that_see_different_folders_end_together '[ $code = 3 ]' '[[ $said = *"manifest.json"* ]]'

# what was signed, put together by hand as the DSSE specification says
payload=$(sed -n 's/.*"payload":"\([^"]*\)".*/\1/p' "$last/model.sig")
base64 -d <<< "$payload" > "$work/payload"
sed -n 's/.*"sig":"\([^"]*\)".*/\1/p' "$last/model.sig" | base64 -d > "$work/sig"
{
    printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(stat -c %s "$work/payload")"
    cat "$work/payload"
} > "$work/signed"
check openssl_verifies_the_signature \
    'openssl dgst -sha256 -verify "$keys/owner.pub" -signature "$work/sig" "$work/signed" > /dev/null' \
    'grep -q "\"name\":\"step-00000006\"" "$work/payload"' \
    'grep -q "$(sha256sum "$last/manifest.json" | cut -c 1-64)" "$work/payload"'

# ---- infer ---------------------------------------------------------------------------------------

works a_signed_model_is_read "${infer[@]}" --require-signature --key "$keys/other.pub" --key "$keys/owner.pub"
rm "$work/v.mp4"
attempt 2 "${infer[@]}" --require-signature --key "$keys/owner.pub"
check two_ranks_read_a_signed_model '[ $code = 0 ]' '[ -s "$work/v.mp4" ]'
rm "$work/v.mp4"
refused a_key_must_be_named 2 "--key PUB.pem" "${infer[@]}" --require-signature
refused a_key_alone_means_nothing 2 "--require-signature" "${infer[@]}" --key "$keys/owner.pub"
refused a_model_of_another_is_not_read 3 "none of its 2 checkpoints is signed" "${infer[@]}" \
    --require-signature --key "$keys/other.pub"
copy_of "$last"
infer[2]=$work/copy
strict=("${infer[@]}" --require-signature --key "$keys/owner.pub")
# what a parser would say is not reached
printf '{' > "$work/copy/model_index.json"
refused nothing_is_parsed_before_it_is_checked 3 "model_index.json: was changed" "${strict[@]}"
copy_of "$last"
flip "$work/copy/transformer_ema/diffusion_pytorch_model.safetensors"
refused changed_weights_are_not_read 3 "model.safetensors: was changed" "${strict[@]}"
copy_of "$last"
touch "$work/copy/transformer/added.json"
refused an_added_file_is_refused 3 "added.json: is not signed" "${strict[@]}"
rm "$work/copy/transformer/added.json"
mv "$work/copy/codec" "$work/away"
ln -s ../away "$work/copy/codec"
refused a_link_is_refused 3 "copy/codec: is neither" "${strict[@]}"
rm -r "$work/away"
copy_of "$last"
sed -i 's/"sig":"..../"sig":"AAAA/' "$work/copy/model.sig"
refused a_changed_signature_is_refused 3 "it was changed" "${strict[@]}"
rm "$work/copy/model.sig"
refused an_unsigned_model_is_not_read 3 "model.sig: is missing" "${strict[@]}"
check no_video_was_made '[ ! -e "$work/v.mp4" ]'

# ---- resume --------------------------------------------------------------------------------------

resume=("${small_train[@]}" checkpoint.sign="$keys/owner.pem" train.steps=8)
refused a_run_of_another_does_not_resume 3 "none of its 2 checkpoints is signed by a trusted key and whole" "${small_train[@]}" train.steps=8 \
    checkpoint.require_signature=true "checkpoint.trusted_keys=[$keys/other.pub]" checkpoint.sign="$keys/other.pem"
printf '{' > "$last/state.json"
attempt 1 "${resume[@]}" "${trusted[@]}"
check a_changed_checkpoint_is_passed_over '[ $code = 0 ]' \
    'grep -q "step-00000006 passed over: .*state.json: was changed" "$work/stderr"' \
    'grep -q "resumed from .*step-00000004" "$work/stderr"'
find "$run" -name model.sig -delete
refused an_unsigned_run_does_not_resume 3 "model.sig: is missing" "${resume[@]}" "${trusted[@]}"
works and_does_where_no_signature_is_required "${resume[@]}"
attempt 1 "${small_train[@]}" run.dir="$work/unsigned" "${trusted[@]}"
check a_run_that_cannot_resume_is_warned '[ $code = 0 ]' 'grep -q "^warning: .*will not be signed" "$work/stderr"'

secret=$(sed -n 2p "$keys/owner.pem")
check the_key_is_in_no_file '! grep -rqF -- "$secret" "$run" "$work/stderr" "$work/stdout"'
