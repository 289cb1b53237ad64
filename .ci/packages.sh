# Installs the Debian packages that building and running take. Sourced by qemu-run.sh and .ci/run.

packages="gcc libc6-dev binutils bochs bochs-term bochsbios vgabios qemu-system-x86 grub-common grub-pc-bin xorriso"

# Prints the packages that are not installed.
missing_packages() {
    for package in $packages; do
        case $(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2> /dev/null) in
        installed) ;;
        *) printf '%s ' "$package" ;;
        esac
    done
}

# Installs them as root or by sudo; ends with status 2 and the line to run if that cannot be.
install_packages() {
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    command="apt-get install --yes --no-install-recommends $missing"
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo > /dev/null && { [ -t 0 ] || sudo --non-interactive true 2> /dev/null; }; then
        as_root=sudo
    else
        echo "missing packages; as root: $command" >&2
        exit 2
    fi
    export DEBIAN_FRONTEND=noninteractive
    if ! { $as_root apt-get update --quiet && $as_root $command; } >&2 < /dev/null; then
        echo "installing failed; as root: apt-get update && $command" >&2
        exit 2
    fi
}
