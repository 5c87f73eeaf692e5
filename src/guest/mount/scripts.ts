/**
 * What a guest is asked to run for its volumes, with the arguments of each. Builtins of `sh` where there are any: each
 * program costs an emulated guest 20 ms.
 */

/**
 * Waits until the drive with serial number `$1` has `$2` sectors, and mounts it at `$3` with options `$4`. With `$5` = grow
 * its file system is fitted to the drive.
 */
export const MOUNT = `
n=0
while :; do
  for d in /sys/block/vd*; do
    s=; read -r s <"$d/serial" || :
    [ "$s" = "$1" ] && { z=; read -r z <"$d/size"; [ "$z" = "$2" ] && break 2; }
  done
  n=$((n + 1))
  [ "$n" -lt 200 ] || { echo "the drive did not appear" >&2; exit 3; }
  sleep 0.05
done
dev=/dev/\${d##*/}
mkdir -p -- "$3" || exit 4
mount -t ext4 -o "$4" "$dev" "$3" || exit 5
[ "$5" != grow ] || resize2fs "$dev" >&2 || { umount "$3"; exit 6; }
`;

/** Unmounts `$1`; what keeps it busy is told as links of /proc, one a line. */
export const UNMOUNT = `
umount -- "$1" && exit 0
ls -l /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/exe /proc/[0-9]*/fd/ 2>/dev/null
exit 7
`;

/** Waits until the drive `$1` has `$2` sectors and fits the file system on it to that. */
export const GROW = `
n=0
while :; do
  for d in /sys/block/vd*; do
    s=; read -r s <"$d/serial" || :
    [ "$s" = "$1" ] && { z=; read -r z <"$d/size"; [ "$z" = "$2" ] && break 2; }
  done
  n=$((n + 1))
  [ "$n" -lt 200 ] || { echo "the drive did not grow" >&2; exit 3; }
  sleep 0.05
done
resize2fs "/dev/\${d##*/}" >&2
`;

/** Puts all that was written below each argument on its disk. */
export const FLUSH = 'sync -f -- "$@"';
