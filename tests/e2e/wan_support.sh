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
