//! What is read of images that genisoimage, xorriso and an attacker make. What the kernel shows of
//! each is written here from its source (`fs/isofs/inode.c`, `joliet.c`, `rock.c`, `namei.c` of
//! Linux 6.12): the machines that run this test have no iso9660 to compare with.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::*;
use crate::iso::volume::Kind;

/// A folder with names, modes and a link of all sorts.
fn tree() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("Sub")).unwrap();
    for (name, mode) in [
        ("README.TXT", 0o640),
        ("Long Name with Blanks.text", 0o600),
        ("Sub/inner.sh", 0o755),
    ] {
        let path = files.join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(files.join("Sub"), Permissions::from_mode(0o750)).unwrap();
    fs::set_permissions(&files, Permissions::from_mode(0o755)).unwrap();
    symlink("Sub/../README.TXT", files.join("link")).unwrap();
    (dir, files)
}

fn made(program: &str, options: &[&str], files: &Path) -> PathBuf {
    let image = files.with_extension("iso");
    let _ = fs::remove_file(&image);
    let output = Command::new(program)
        .args(options)
        .arg("-o")
        .args([&image, files])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {options:?}: {said}");
    image
}

/// `<mode> <owner>:<group> <path>`, sorted by the path.
fn listing(image: &Path) -> Result<Vec<String>, Bad> {
    let file = File::open(image).unwrap();
    let volume = Volume::open(&file)?;
    let mut open = vec![(volume.root(), String::new())];
    let mut lines = Vec::new();
    while let Some((block, path)) = open.pop() {
        let folder = volume.folder(block, &path)?;
        let line = |a: volume::Attributes, path: &str| {
            (
                path.to_owned(),
                format!("{:o} {}:{} {path}", a.mode, a.owner.0, a.owner.1),
            )
        };
        lines.push(line(folder.attributes, &format!("{path}/")));
        for entry in folder.entries {
            let name = format!("{path}/{}", String::from_utf8(entry.name).unwrap());
            match entry.kind {
                Kind::Folder(block) => open.push((block, name)),
                Kind::Link(to) => {
                    let to = String::from_utf8(to).unwrap();
                    lines.push(line(entry.attributes, &format!("{name} -> {to}")));
                }
                Kind::File(_) => lines.push(line(entry.attributes, &name)),
                Kind::Other => lines.push(line(entry.attributes, &format!("{name} (other)"))),
            }
        }
    }
    lines.sort();
    Ok(lines.into_iter().map(|(_, line)| line).collect())
}

#[test]
fn rock_ridge_stands_before_joliet_with_names_modes_owners_and_links() {
    let (_dir, files) = tree();
    for (program, options) in [
        ("genisoimage", &["-quiet", "-R"][..]),
        ("genisoimage", &["-quiet", "-R", "-J"]),
        ("xorriso", &["-as", "mkisofs", "-quiet", "-R"]),
        ("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-J"]),
    ] {
        let image = made(program, options, &files);
        let me = fs::metadata(files.join("README.TXT")).unwrap();
        let me = format!("{}:{}", me.uid(), me.gid());
        let expected = [
            format!("755 {me} /"),
            format!("600 {me} /Long Name with Blanks.text"),
            format!("640 {me} /README.TXT"),
            format!("750 {me} /Sub/"),
            format!("755 {me} /Sub/inner.sh"),
            format!("777 {me} /link -> Sub/../README.TXT"),
        ];
        assert_eq!(listing(&image).unwrap(), expected, "{program} {options:?}");
    }
    let options = ["-quiet", "-R", "-J", "-uid", "1000", "-gid", "50"];
    let image = made("genisoimage", &options, &files);
    let shown = listing(&image).unwrap();
    assert!(
        shown.contains(&"640 1000:50 /README.TXT".to_owned()),
        "{shown:?}"
    );
    let target = files.with_file_name("4");
    assert_eq!(once(&image, &target).unwrap(), shown.len());
    assert_eq!(once(&image, &target).unwrap(), 0, "nothing was written");
}

#[test]
fn joliet_names_are_root_s_and_may_be_run() {
    let (_dir, files) = tree();
    fs::remove_file(files.join("link")).unwrap();
    fs::write(files.join("Grüße"), "").unwrap();
    let options = ["-quiet", "-J", "-input-charset", "utf-8"];
    let image = made("genisoimage", &options, &files);
    let expected = [
        "555 0:0 /",
        "555 0:0 /Grüße",
        "555 0:0 /Long Name with Blanks.text",
        "555 0:0 /README.TXT",
        "555 0:0 /Sub/",
        "555 0:0 /Sub/inner.sh",
    ];
    assert_eq!(listing(&image).unwrap(), expected);
    let options = ["-as", "mkisofs", "-quiet", "--norock", "-J"];
    assert_eq!(
        listing(&made("xorriso", &options, &files)).unwrap(),
        expected
    );
}

#[test]
fn names_without_extensions_are_in_lower_case_without_their_version() {
    let (_dir, files) = tree();
    fs::remove_file(files.join("link")).unwrap();
    let expected = [
        "555 0:0 /",
        "555 0:0 /long_nam.tex",
        "555 0:0 /readme.txt",
        "555 0:0 /sub/",
        "555 0:0 /sub/inner.sh",
    ];
    for (program, options) in [
        ("genisoimage", &["-quiet"][..]),
        (
            "xorriso",
            &["-as", "mkisofs", "-quiet", "--norock", "-iso-level", "1"],
        ),
    ] {
        let image = made(program, options, &files);
        assert_eq!(listing(&image).unwrap(), expected, "{program}");
    }
}

#[test]
fn folders_that_were_moved_because_they_are_too_deep_stand_where_they_belong() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("files");
    let deep = files.join("1/2/3/4/5/6/7/8/9/10");
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("file"), "deep").unwrap();
    let image = made("genisoimage", &["-quiet", "-R"], &files);
    let shown = listing(&image).unwrap();
    let paths: Vec<_> = shown
        .iter()
        .filter_map(|l| l.split(' ').next_back())
        .collect();
    assert!(paths.contains(&"/1/2/3/4/5/6/7/8/9/10/file"), "{paths:?}");
    let moved: Vec<_> = paths
        .iter()
        .filter(|p| p.starts_with("/rr_moved"))
        .collect();
    assert_eq!(
        moved,
        [&"/rr_moved/"],
        "what stands elsewhere is not listed there"
    );
    let target = dir.path().join("4");
    once(&image, &target).unwrap();
    let file = target.join("1/2/3/4/5/6/7/8/9/10/file");
    assert_eq!(fs::read(file).unwrap(), b"deep");
}

#[test]
fn a_cd_s_files_have_their_modes_and_times_and_the_folder_can_be_made_anew_and_removed() {
    let (dir, files) = tree();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(951_827_415);
    let readme = File::options()
        .write(true)
        .open(files.join("README.TXT"))
        .unwrap();
    readme.set_modified(old).unwrap();
    fs::set_permissions(files.join("Sub"), Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(files.join("Sub/inner.sh"), Permissions::from_mode(0o4755)).unwrap();
    let image = made("genisoimage", &["-quiet", "-R"], &files);
    let paths = onedock_common::state::paths::Paths::at(dir.path());
    let (vm, disk) = (onedock_common::VmId::new(5), onedock_common::DiskId::new(4));
    let target = paths.extracted_folder(vm, disk);
    once(&image, &target).unwrap();
    let mode = |name: &str| fs::metadata(target.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("README.TXT"), mode("Sub")), (0o640, 0o555));
    assert_eq!(
        mode("Sub/inner.sh"),
        0o755,
        "no set-id bit of the writer's own"
    );
    let readme = fs::metadata(target.join("README.TXT")).unwrap();
    assert_eq!(readme.mtime(), 951_827_415);
    assert_eq!(
        fs::read_link(target.join("link")).unwrap(),
        Path::new("Sub/../README.TXT")
    );
    fs::set_permissions(files.join("Sub"), Permissions::from_mode(0o755)).unwrap();
    fs::rename(files.join("Sub/inner.sh"), files.join("Sub/other.sh")).unwrap();
    fs::set_permissions(files.join("Sub"), Permissions::from_mode(0o555)).unwrap();
    let image = made("genisoimage", &["-quiet", "-R"], &files);
    once(&image, &target).unwrap();
    assert!(!target.join("Sub/inner.sh").exists() && target.join("Sub/other.sh").exists());
    assert_eq!(mode("Sub"), 0o555);
    onedock_common::state::extracted::forget_disk(&paths, vm, disk).unwrap();
    assert!(!target.exists());
    fs::set_permissions(files.join("Sub"), Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_image_that_was_cut_anywhere_is_said_to_be_and_nothing_of_it_is_shown() {
    let (dir, files) = tree();
    fs::write(files.join("big"), vec![7; 500_000]).unwrap();
    let options = ["-quiet", "-R", "-J", "-no-pad"];
    let image = made("genisoimage", &options, &files);
    let bytes = fs::read(&image).unwrap();
    let target = dir.path().join("4");
    for length in (34_816..bytes.len() - 2048).step_by(1021) {
        fs::write(&image, &bytes[..length]).unwrap();
        let error = once(&image, &target).unwrap_err();
        assert!(matches!(error, IsoError::Cut { .. }), "{length}: {error}");
        let said = error.to_string();
        assert!(said.contains("is cut off: "), "{said}");
        assert!(said.contains(&format!("and it has {length};")), "{said}");
        assert!(!target.exists());
    }
    fs::write(&image, &bytes[..bytes.len() - 100_000]).unwrap();
    let said = once(&image, &target).unwrap_err().to_string();
    assert!(
        said.contains("its file /") && !said.contains('\n'),
        "{said}"
    );
    for length in [0, 100, 32_768, 32_774] {
        fs::write(&image, &bytes[..length]).unwrap();
        let said = once(&image, &target).unwrap_err().to_string();
        assert!(
            said.contains("is not an ISO image that can be read"),
            "{said}"
        );
    }
    fs::write(&image, &bytes).unwrap();
    once(&image, &target).unwrap();
    assert_eq!(fs::read(target.join("big")).unwrap(), vec![7; 500_000]);
}

/// A record: name, flags, block, size, extensions.
fn record(name: &[u8], flags: u8, block: u32, size: u32, extensions: &[u8]) -> Vec<u8> {
    let both = |n: u32| [n.to_le_bytes(), n.to_be_bytes()].concat();
    let mut bytes = vec![0, 0];
    bytes.extend(both(block));
    bytes.extend(both(size));
    bytes.extend([100, 1, 1, 0, 0, 0, 0, flags, 0, 0, 1, 0, 0, 1]);
    bytes.push(u8::try_from(name.len()).unwrap());
    bytes.extend_from_slice(name);
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    bytes.extend_from_slice(extensions);
    bytes[0] = u8::try_from(bytes.len()).unwrap();
    bytes
}

const ROOT: u32 = 18;
/// SP, and ER without an identifier.
const ROCK: [u8; 15] = [
    b'S', b'P', 7, 1, 0xbe, 0xef, 0, b'E', b'R', 8, 1, 0, 0, 0, 1,
];

/// An image whose root folder has these records, followed by two blocks of `A` and of `B`.
fn image_of(path: &Path, own: &[u8], records: &[Vec<u8>]) {
    let mut bytes = vec![0; 16 * 2048];
    let mut primary = vec![0; 2048];
    primary[0] = 1;
    primary[1..6].copy_from_slice(b"CD001");
    primary[128..132].copy_from_slice(&[0, 8, 8, 0]);
    let root = record(&[0], 2, ROOT, 2048, &[]);
    primary[156..156 + root.len()].copy_from_slice(&root);
    bytes.extend(primary);
    let mut end = vec![0; 2048];
    end[0] = 255;
    end[1..6].copy_from_slice(b"CD001");
    bytes.extend(end);
    let mut folder = [
        record(&[0], 2, ROOT, 2048, own),
        record(&[1], 2, ROOT, 2048, &[]),
    ]
    .concat();
    folder.extend(records.concat());
    folder.resize(2048, 0);
    bytes.extend(folder);
    bytes.extend(vec![b'A'; 2048]);
    bytes.extend(vec![b'B'; 2048]);
    fs::write(path, bytes).unwrap();
}

fn name(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(5 + text.len()).unwrap();
    [&[b'N', b'M', length, 1, 0], text].concat()
}

#[test]
fn a_file_of_several_pieces_is_one_and_associated_files_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("i");
    image_of(
        &image,
        &[],
        &[
            record(b"LARGE.BIN;1", 0x80, 19, 2048, &[]),
            record(b"LARGE.BIN;1", 0, 20, 5, &[]),
            record(b"NOTE;1", 4, 20, 5, &[]),
            record(b"NOTE;1", 0, 19, 3, &[]),
            record(b"EMPTY;1", 0, 999_999, 0, &[]),
        ],
    );
    let target = dir.path().join("4");
    once(&image, &target).unwrap();
    let large = [vec![b'A'; 2048], vec![b'B'; 5]].concat();
    assert_eq!(fs::read(target.join("large.bin")).unwrap(), large);
    assert_eq!(fs::read(target.join("note")).unwrap(), b"AAA");
    assert_eq!(fs::read(target.join("empty")).unwrap(), b"");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 3);
}

#[test]
fn attacks_16_and_17_names_links_loops_and_sizes_of_a_hostile_image_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("i");
    let target = dir.path().join("4");
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let link = |to: &[u8]| {
        let px = [
            b"PX\x24\x01".as_slice(),
            &0o120_777u32.to_le_bytes(),
            &[0; 28],
        ]
        .concat();
        let length = u8::try_from(5 + 2 + to.len()).unwrap();
        let size = u8::try_from(to.len()).unwrap();
        [&px, &[b'S', b'L', length, 1, 0, 0, size][..], to].concat()
    };
    let file = |name_of: &[u8]| record(b"F;1", 0, 19, 9, &name(name_of));
    for (said, records) in [
        ("the name \"../x\"", vec![file(b"../x")]),
        ("the name \"/etc/x\"", vec![file(b"/etc/x")]),
        ("the name \"..\"", vec![file(b"..")]),
        ("is in it twice", vec![record(b"ROUND", 2, ROOT, 2048, &[])]),
        (
            "files have more than",
            (0..40u8)
                .map(|n| {
                    record(
                        &[b'a' + n / 26, b'a' + n % 26],
                        0,
                        19,
                        4096 - u32::from(n),
                        &[],
                    )
                })
                .collect(),
        ),
        (
            "is compressed (zisofs)",
            vec![record(
                b"Z;1",
                0,
                19,
                9,
                b"ZF\x10\x01pz\x04\x0f\0\0\0\0\0\0\0\0",
            )],
        ),
    ] {
        image_of(&image, &ROCK, &records);
        let error = once(&image, &target).unwrap_err().to_string();
        assert!(
            error.contains("is refused") && error.contains(said),
            "{error}"
        );
        assert!(!target.exists());
    }
    // The first of two with one name counts, and nothing is written through it.
    let to = link(outside.to_str().unwrap().as_bytes());
    image_of(
        &image,
        &ROCK,
        &[
            record(b"A;1", 0, 19, 0, &[name(b"a"), to].concat()),
            record(b"B;1", 0, 19, 9, &name(b"a")),
            record(b"C;1", 0, 19, 9, &name(b"c")),
        ],
    );
    once(&image, &target).unwrap();
    assert_eq!(fs::read_link(target.join("a")).unwrap(), outside);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(target.join("c").exists());
    for damaged in [
        vec![vec![40, 0, 0]],
        vec![record(b"F;1", 0x80, 19, 9, &[])],
        vec![record(b"SUB", 2, 19, 2048, &[])],
    ] {
        image_of(&image, &[], &damaged);
        let error = once(&image, &target).unwrap_err().to_string();
        assert!(
            error.contains("is not an ISO image that can be read"),
            "{error}"
        );
    }
}
