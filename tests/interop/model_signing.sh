#!/bin/bash
# Signatures against the reference implementation of OpenSSF Model Signing (PyPI model-signing and
# pyOpenSSL): it accepts ours, we accept its, and both refuse what was changed.
set -u
# shellcheck source=tests/interop/interop_support.sh
. "$(dirname "$0")/interop_support.sh"
needs model_signing OpenSSL
version model-signing cryptography

key() {
    openssl ecparam -name "$2" -genkey -noout -out "$work/$1.pem"
    openssl ec -in "$work/$1.pem" -pubout -out "$work/$1.pub" 2> /dev/null
}
theirs() { "$python" -m model_signing "$@"; }
# their_verify KEY FOLDER; their_sign KEY FOLDER
their_verify() { theirs verify key --public_key "$work/$1.pub" --signature "$2/model.sig" "$2"; }
their_sign() { theirs sign key --private_key "$work/$1.pem" --signature "$2/model.sig" "$2"; }
our_infer() {
    "$zoetrope" infer --model "$2" --require-signature --key "$work/$1.pub" --prompt bars --size 32x32 --frames 9 \
        --steps 2 --threads 1 --out "$work/video.mp4"
}

key owner prime256v1
key other prime256v1
key p384 secp384r1
key p521 secp521r1
make_run "$work/owner.pem"

accepts they_accept_a_checkpoint_of_ours their_verify owner "$checkpoint"
refuses they_refuse_another_key their_verify other "$checkpoint"
cp -r "$checkpoint" "$work/copy"
echo >> "$work/copy/transformer/config.json"
refuses they_refuse_a_changed_file their_verify owner "$work/copy"
refuses as_we_do "$zoetrope" verify "$work/copy" --key "$work/owner.pub"
rm -r "$work/copy"
cp -r "$checkpoint" "$work/copy"
touch "$work/copy/added"
refuses they_refuse_an_added_file their_verify owner "$work/copy"
refuses as_we_do "$zoetrope" verify "$work/copy" --key "$work/owner.pub"

# the same checkpoint, signed by them
rm "$work/copy/added" "$work/copy/model.sig"
for name in owner p384 p521; do
    accepts "they_sign_with_$name" their_sign $name "$work/copy"
    accepts "we_accept_it_of_$name" "$zoetrope" verify "$work/copy" --key "$work/$name.pub"
    accepts "infer_reads_it_of_$name" our_infer $name "$work/copy"
    refuses "we_refuse_another_key_than_$name" "$zoetrope" verify "$work/copy" --key "$work/other.pub"
done

# a folder of theirs that is no model of ours: names in their order, an ignored folder, an empty file
mkdir -p "$work/any/a" "$work/any/.git"
echo 1 > "$work/any/a/file"
echo 2 > "$work/any/a.file"
echo 3 > "$work/any/a-file"
: > "$work/any/empty"
echo 4 > "$work/any/.git/config"
accepts they_sign_any_folder their_sign owner "$work/any"
accepts we_accept_it "$zoetrope" verify "$work/any" --key "$work/owner.pub"
echo 5 > "$work/any/a/file"
refuses we_refuse_it_changed "$zoetrope" verify "$work/any" --key "$work/owner.pub"
exit $failed
