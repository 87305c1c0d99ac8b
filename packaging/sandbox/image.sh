#!/bin/sh
# Makes a container image from Debian's busybox, static or not, as `docker save` would write it: an HTTP
# server with one page on port 80 and another on port 8080. Nothing but tar is needed.
#   image.sh FILE
set -eu
file=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM HUP

root=$work/root
mkdir -p "$root/bin" "$root/etc" "$root/tmp" "$root/www/80" "$root/www/8080"
cp /bin/busybox "$root/bin/busybox"
# An installed Debian has the busybox that needs libraries; they go along. The static one names none.
for library in $(ldd /bin/busybox 2>/dev/null | grep -o '/[^ ]*'); do
    mkdir -p "$root${library%/*}"
    cp -L "$library" "$root$library"
done
for name in sh httpd wget ls cat ps ip ping hostname sleep echo mount; do
    ln -s busybox "$root/bin/$name"
done
echo 'root:x:0:0:root:/:/bin/sh' >"$root/etc/passwd"
echo 'Hello from the VM, port 80.' >"$root/www/80/index.html"
echo 'Hello from the VM, port 8080.' >"$root/www/8080/index.html"
cat >"$root/bin/serve" <<'SERVE'
#!/bin/sh
# The first process of a container ends by a signal only when it asks for it.
trap 'exit 0' TERM
httpd -p 80 -h /www/80
httpd -p 8080 -h /www/8080
sleep 2147483647 &
wait
SERVE
chmod 755 "$root/bin/serve"
chmod 1777 "$root/tmp"

pack() {
    tar --create --owner=0 --group=0 --numeric-owner --mtime=@0 --sort=name "$@"
}

digest() {
    sha256sum "$1" | cut -d ' ' -f 1
}

case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture=$(uname -m) ;;
esac

out=$work/out
mkdir -p "$out/layer"
pack --file="$out/layer/layer.tar" --directory="$root" .
layer=$(digest "$out/layer/layer.tar")
printf '{"architecture":"%s","os":"linux","created":"1970-01-01T00:00:00Z","config":{"Cmd":["/bin/serve"],"Env":["PATH=/bin"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"onedock sandbox"}]}' \
    "$architecture" "$layer" >"$out/config.json"
config=$(digest "$out/config.json")
mv "$out/config.json" "$out/$config.json"
printf '[{"Config":"%s.json","RepoTags":["onedock-sandbox:latest"],"Layers":["layer/layer.tar"]}]' \
    "$config" >"$out/manifest.json"

mkdir -p "$(dirname "$file")"
pack --file="$file.new" --directory="$out" manifest.json "$config.json" layer
chmod 644 "$file.new"
mv "$file.new" "$file"
