# Sourced by the scripts that fine-tune folders which diffusers saved.
# shellcheck shell=bash
# shellcheck disable=SC2034 # read by the scripts that source this
# shellcheck source=tests/e2e/check_support.sh
. tests/e2e/check_support.sh
folders=$PWD/tests/fixtures/wan_pipelines

# make_clips: $work/clips, three videos of 48x32 with captions
make_clips() {
    mkdir "$work/clips"
    for i in 1 2 3; do
        ffmpeg -v error -y -f lavfi -i testsrc2=size=48x32:rate=8:duration=2 -vf "hue=h=$((40 * i))" \
            -pix_fmt yuv420p "$work/clips/$i.mp4" < /dev/null
        echo "bars, number $i" > "$work/clips/$i.txt"
    done
}

# with_another FOLDER PART COPY: FOLDER as COPY, one bit of the first value of its PART changed
with_another() {
    local file byte at
    cp -rL "$1" "$3" && chmod -R u+w "$3"
    file=$(ls "$3/$2"/*.safetensors | head -n 1)
    at=$((8 + $(od -An -t u8 -N 8 "$file")))
    byte=$(od -An -t u1 -j $at -N 1 "$file")
    printf %b "\\x$(printf %02x $((byte ^ 4)))" | dd of="$file" bs=1 seek=$at conv=notrunc status=none
}
