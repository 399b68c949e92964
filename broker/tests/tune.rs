//! `ringlog tune`, the binary: killed in the middle of its changes, and on the real kernel in a network and a mount namespace of its own.

#![expect(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn ringlog(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringlog"));
    command.args(arguments);
    command
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn killed_between_two_changes_it_leads_back_all_the_same() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    let files = [
        ("proc/meminfo", "MemTotal: 99999999 kB\n"),
        ("proc/sys/vm/swappiness", "60\n"),
        ("proc/sys/vm/dirty_background_bytes", "9999999999\n"),
        ("proc/sys/vm/dirty_background_ratio", "0\n"),
        ("proc/sys/vm/dirty_bytes", "99999999999\n"),
        ("proc/sys/vm/dirty_ratio", "0\n"),
        ("proc/sys/net/core/somaxconn", "128\n"),
    ];
    for (path, text) in files {
        write(root, path, text);
    }
    // Where there is a number of bytes the ratio is only written, never read. A pipe is opened for that when somebody reads it.
    let pipes = ["proc/sys/vm/dirty_background_ratio", "proc/sys/vm/dirty_ratio"].map(|path| root.join(path));
    for pipe in &pipes {
        fs::remove_file(pipe).unwrap();
        assert!(Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
    let folder = ["--root", root.to_str().unwrap()];
    let mut tune = ringlog(&["tune", "--apply", "--profile", "bare-metal"])
        .args(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It is in the middle of the second change, and the third never ends, since nobody reads that pipe.
    let reached = fs::File::open(&pipes[0]).unwrap();
    tune.kill().unwrap();
    tune.wait().unwrap();
    drop(reached);
    assert_eq!(
        fs::read_to_string(root.join("proc/sys/vm/swappiness")).unwrap(),
        "1\n",
        "the first change was made"
    );
    assert_eq!(
        fs::read_to_string(root.join("proc/sys/net/core/somaxconn")).unwrap(),
        "128\n",
        "the last was not"
    );

    for pipe in &pipes {
        fs::remove_file(pipe).unwrap();
        fs::write(pipe, "0\n").unwrap();
    }
    let reverted = ringlog(&["tune", "--revert"]).args(folder).output().unwrap();
    assert!(reverted.status.success(), "{}", text(&reverted));
    for (path, was) in files {
        assert_eq!(fs::read_to_string(root.join(path)).unwrap(), was, "{path}");
    }
    assert!(!root.join("var/lib/ringlog-tune/originals.json").exists());
}

#[test]
fn nothing_is_changed_without_being_asked() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "proc/sys/vm/swappiness", "60\n");
    let folder = root.path().to_str().unwrap();
    for more in
        [&[][..], &["--dry-run"], &["--apply", "--dry-run"], &["--json"], &["--explain", "swappiness"]]
    {
        let mut arguments = vec!["tune", "--root", folder, "--profile", "cloud-vm"];
        arguments.extend(more);
        let output = ringlog(&arguments).env("TERM", "xterm").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        assert!(!text(&output).contains('\x1b'), "no colours but on a terminal");
        assert!(text(&output).contains("swappiness"), "{}", text(&output));
    }
    assert_eq!(fs::read_to_string(root.path().join("proc/sys/vm/swappiness")).unwrap(), "60\n");
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "nothing is written beside it");
    for refused in [&["--persist"][..], &["--apply", "--revert"], &["--only", "nosuch"]] {
        let mut arguments = vec!["tune", "--root", folder];
        arguments.extend(refused);
        assert!(!ringlog(&arguments).output().unwrap().status.success(), "{refused:?}");
    }
}

/// In namespaces of its own: settings of its network, and a mount, are changed on the running kernel, looked at and put back.
const SCRIPT: &str = r#"
set -eu
ringlog=$1 folder=$2
mkdir "$folder/data"
mount -t tmpfs -o nosuid,nodev,relatime none "$folder/data"
echo 128 >/proc/sys/net/core/somaxconn
echo 1000 >/proc/sys/net/ipv4/tcp_max_syn_backlog
echo '4096 131072 6291456' >/proc/sys/net/ipv4/tcp_rmem
echo 1 >/proc/sys/net/ipv4/tcp_slow_start_after_idle
holds() {
    for name in core/somaxconn ipv4/tcp_max_syn_backlog ipv4/tcp_rmem ipv4/tcp_wmem ipv4/tcp_slow_start_after_idle; do
        cat "/proc/sys/net/$name"
    done
    grep " $folder/data " /proc/self/mountinfo
}
tune() {
    "$ringlog" tune --state "$folder/state/originals.json" --data "$folder/data" --profile bare-metal \
        --only somaxconn --only tcp-buffers --only mount-options "$@"
}
holds >"$folder/before"
tune --apply
holds >"$folder/applied"
tune --json >"$folder/look"
tune --apply >"$folder/again"
tune --revert
holds >"$folder/after"
"#;

#[test]
fn on_the_running_kernel_it_changes_checks_and_puts_back_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let root = ["--net", "--mount", "--propagation", "private"];
    let user = ["--map-root-user", "--net", "--mount", "--propagation", "private"];
    let may = |options: &[&str]| {
        let tried = Command::new("unshare").args(options).arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    };
    let options: &[&str] = match (may(&root), may(&user)) {
        (true, _) => &root,
        (_, true) => &user,
        _ => {
            eprintln!("no namespaces may be made here: nothing was tested");
            return;
        }
    };
    let binary = env!("CARGO_BIN_EXE_ringlog");
    let output = Command::new("unshare")
        .args(options)
        .args(["bash", "-c", SCRIPT, "bash", binary, path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let (before, applied) = (read("before"), read("applied"));
    assert_eq!(before, read("after"));
    assert!(applied.starts_with("4096\n4096\n4096\t131072\t16777216\n"), "{applied}");
    assert!(applied.contains("rw,nosuid,nodev,noatime "), "{applied}");
    assert!(!read("look").contains("\"change\""), "{}", read("look"));
    assert_eq!(read("again"), "nothing to change\n");
}
