//! A disk in memory whose power can be cut: what was not synced is then lost, torn or reordered.
//!
//! It is harsher than file systems are. Any part of an unsynced write may reach the platter without
//! any other, before or after it, and up to any byte; only a sector that is written alone is written
//! whole or not. A file that was synced is not found when its directory was not.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::{RawFile, RawFiles, Real};

/// What a disk writes whole.
const SECTOR: usize = 512;
/// Calls that are remembered.
const LAST_MAX: usize = 40;

/// The disk; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct PowerDisk(Arc<Mutex<World>>);

#[derive(Debug, Default)]
struct World {
    files: Vec<Inode>,
    /// What a program finds.
    names: BTreeMap<PathBuf, usize>,
    /// What is found after a cut, but for what is pending.
    durable: BTreeMap<PathBuf, usize>,
    pending: Vec<Change>,
    /// Calls that change something.
    calls: u64,
    cut_at: Option<u64>,
    is_off: bool,
    /// The last calls, for whoever must understand a failure.
    last: Vec<String>,
}

#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    Bytes(usize, Vec<u8>),
    Size(usize),
}

/// One change of one directory.
#[derive(Clone, Debug)]
struct Change {
    dir: PathBuf,
    inode: usize,
    add: Option<PathBuf>,
    remove: Option<PathBuf>,
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(name) = &self.remove
            && names.get(name) == Some(&self.inode)
        {
            names.remove(name);
        }
        if let Some(name) = &self.add {
            names.insert(name.clone(), self.inode);
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

fn off() -> io::Error {
    io::Error::other("the power is off")
}

impl World {
    /// Counts a call; says whether the power goes while it runs.
    fn begin(&mut self, what: impl FnOnce() -> String) -> io::Result<bool> {
        if self.is_off {
            return Err(off());
        }
        self.calls += 1;
        self.last.push(what());
        if self.last.len() > LAST_MAX {
            self.last.remove(0);
        }
        self.is_off = self.cut_at.is_some_and(|cut| self.calls >= cut);
        Ok(self.is_off)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn change(&mut self, dir: PathBuf, inode: usize, add: Option<&Path>, remove: Option<&Path>) {
        let (add, remove) = (add.map(Path::to_owned), remove.map(Path::to_owned));
        let change = Change { dir, inode, add, remove };
        change.apply(&mut self.names);
        self.pending.push(change);
    }
}

/// Lets some of `writes` reach what a cut leaves of a file.
fn settle(inode: &mut Inode, random: &mut fastrand::Rng) {
    let mut bytes = std::mem::take(&mut inode.durable);
    let put = |bytes: &mut Vec<u8>, at: usize, part: &[u8]| {
        if bytes.len() < at + part.len() {
            bytes.resize(at + part.len(), 0);
        }
        bytes[at..at + part.len()].copy_from_slice(part);
    };
    for write in inode.unsynced.drain(..) {
        match (write, random.u8(0..5)) {
            (_, 0) => {}
            (Write::Size(size), _) => bytes.resize(size, 0),
            (Write::Bytes(at, part), 1) => put(&mut bytes, at, &part),
            // A sector alone is written whole, which acknowledgements and notes rely on.
            (Write::Bytes(at, part), _) if at % SECTOR == 0 && part.len() <= SECTOR => {
                put(&mut bytes, at, &part);
            }
            // Up to any byte.
            (Write::Bytes(at, part), 2) => {
                let end = random.usize(0..=part.len());
                put(&mut bytes, at, &part[..end]);
            }
            // Any of its sectors.
            (Write::Bytes(at, part), _) => {
                let mut from = 0;
                while from < part.len() {
                    let to = ((at + from) / SECTOR * SECTOR + SECTOR - at).min(part.len());
                    if random.bool() {
                        put(&mut bytes, at + from, &part[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
    inode.now.clone_from(&bytes);
    inode.durable = bytes;
}

impl PowerDisk {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Cuts the power while the call with that number runs, counted from the first of all.
    pub(in super::super) fn cut_at(&self, call: Option<u64>) {
        self.world().cut_at = call;
    }

    /// Calls so far that changed something.
    pub(in super::super) fn calls(&self) -> u64 {
        self.world().calls
    }

    /// Whether the power went.
    pub(in super::super) fn is_off(&self) -> bool {
        self.world().is_off
    }

    /// The last calls.
    pub(in super::super) fn last_calls(&self) -> Vec<String> {
        self.world().last.clone()
    }

    /// Cuts the power now, if it is not off, and turns it on again: what was not synced is lost in
    /// part, as `random` has it.
    pub(in super::super) fn lose_power(&self, random: &mut fastrand::Rng) {
        let mut world = self.world();
        let world = &mut *world;
        let mut names = world.durable.clone();
        // The changes of one file come to the platter in order, those of different ones as they
        // like; or all in order, as a journal has them.
        let journal = random.bool().then(|| random.usize(0..=world.pending.len()));
        let mut stopped = Vec::new();
        for (index, change) in world.pending.drain(..).enumerate() {
            let is_lost = match journal {
                Some(end) => index >= end,
                None => stopped.contains(&change.inode) || random.u8(0..3) == 0,
            };
            if is_lost {
                stopped.push(change.inode);
            } else {
                change.apply(&mut names);
            }
        }
        for inode in &mut world.files {
            settle(inode, random);
        }
        world.names = names.clone();
        world.durable = names;
        (world.is_off, world.cut_at) = (false, None);
    }

    /// The processes end and the machine goes on: nothing is lost, nothing more is synced.
    pub(in super::super) fn turn_on(&self) {
        let mut world = self.world();
        (world.is_off, world.cut_at) = (false, None);
    }
}

impl RawFiles for PowerDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn RawFile>> {
        let inode = self.world().find(path)?;
        Ok(Box::new(PowerFile { disk: self.clone(), inode, path: path.to_owned() }))
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn RawFile>> {
        let mut world = self.world();
        let cut = world.begin(|| format!("create {}", path.display()))?;
        let size = usize::try_from(size).unwrap();
        // What was there under the name is gone, and comes back if the change is lost.
        world.files.push(Inode {
            now: vec![0; size],
            durable: Vec::new(),
            unsynced: vec![Write::Size(size)],
        });
        let inode = world.files.len() - 1;
        world.change(parent(path), inode, Some(path), None);
        if cut {
            return Err(off());
        }
        drop(world);
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.find(from)?;
        let cut = world.begin(|| format!("rename {} {}", from.display(), to.display()))?;
        if parent(from) == parent(to) {
            world.change(parent(to), inode, Some(to), Some(from));
        } else {
            world.change(parent(to), inode, Some(to), None);
            world.change(parent(from), inode, None, Some(from));
        }
        if cut { Err(off()) } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.find(path)?;
        let cut = world.begin(|| format!("remove {}", path.display()))?;
        world.change(parent(path), inode, None, Some(path));
        if cut { Err(off()) } else { Ok(()) }
    }

    /// Directories are there at once, and on the real disk too, for what does not come through this
    /// layer: the lock and the keys.
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        if world.begin(|| format!("sync {}", path.display()))? {
            return Err(off());
        }
        let world = &mut *world;
        let (synced, pending) =
            std::mem::take(&mut world.pending).into_iter().partition(|change| change.dir == path);
        world.pending = pending;
        let synced: Vec<Change> = synced;
        synced.iter().for_each(|change| change.apply(&mut world.durable));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(String, u64)>> {
        let world = self.world();
        let inside = world.names.iter().filter(|(name, _)| name.parent() == Some(path));
        let named = inside.filter_map(|(name, inode)| {
            let name = name.file_name()?.to_string_lossy().into_owned();
            Some((name, world.files[*inode].now.len() as u64))
        });
        Ok(named.collect())
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        Real.free_bytes(path).map(|free| free.max(1 << 40))
    }
}

#[derive(Debug)]
struct PowerFile {
    disk: PowerDisk,
    inode: usize,
    path: PathBuf,
}

impl RawFile for PowerFile {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let world = self.disk.world();
        let now = &world.files[self.inode].now;
        let from = usize::try_from(offset).unwrap().min(now.len());
        let len = bytes.len().min(now.len() - from);
        bytes[..len].copy_from_slice(&now[from..from + len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let (path, at) = (&self.path, usize::try_from(offset).unwrap());
        let cut = world.begin(|| format!("write {} {at}+{}", path.display(), bytes.len()))?;
        let file = &mut world.files[self.inode];
        if file.now.len() < at + bytes.len() {
            file.now.resize(at + bytes.len(), 0);
        }
        file.now[at..at + bytes.len()].copy_from_slice(bytes);
        file.unsynced.push(Write::Bytes(at, bytes.to_owned()));
        if cut { Err(off()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world();
        if world.begin(|| format!("sync {}", self.path.display()))? {
            return Err(off());
        }
        let file = &mut world.files[self.inode];
        file.unsynced.clear();
        file.durable.clone_from(&file.now);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut world = self.disk.world();
        let cut = world.begin(|| format!("truncate {} {size}", self.path.display()))?;
        let (size, file) = (usize::try_from(size).unwrap(), &mut world.files[self.inode]);
        file.now.resize(size, 0);
        file.unsynced.push(Write::Size(size));
        if cut { Err(off()) } else { Ok(()) }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.world().files[self.inode].now.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(disk: &PowerDisk, dir: &str) -> Vec<String> {
        disk.list(Path::new(dir)).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_was_synced_stays_and_what_was_not_goes_in_parts() {
        let (mut lost, mut torn) = (0, 0);
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let disk = PowerDisk::default();
            let file = disk.create(Path::new("/d/a"), 4096).unwrap();
            file.write_at(&[1; 4096], 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir(Path::new("/d")).unwrap();
            file.write_at(&[2; 4096], 0).unwrap();
            drop(disk.create(Path::new("/d/b"), 0).unwrap());
            disk.lose_power(&mut random);
            let mut bytes = [0; 4096];
            assert_eq!(disk.open(Path::new("/d/a")).unwrap().read_at(&mut bytes, 0).unwrap(), 4096);
            assert!(bytes.iter().all(|byte| [1, 2].contains(byte)));
            torn += usize::from(bytes.contains(&1) && bytes.contains(&2));
            lost += usize::from(names(&disk, "/d") == ["a"]);
        }
        assert!(torn > 50 && (20..180).contains(&lost), "{torn} torn, {lost} lost");
    }

    #[test]
    fn the_power_goes_while_a_call_runs() {
        let disk = PowerDisk::default();
        let file = disk.create(Path::new("/d/a"), 0).unwrap();
        disk.cut_at(Some(disk.calls() + 2));
        file.write_at(b"x", 0).unwrap();
        assert!(file.sync().is_err() && disk.is_off());
        assert!(file.write_at(b"y", 1).is_err());
        disk.turn_on();
        assert_eq!(file.size().unwrap(), 1);
    }

    #[test]
    fn a_rename_over_a_file_leaves_one_or_the_other() {
        for seed in 0..100 {
            let disk = PowerDisk::default();
            for (name, byte) in [("/d/new", b"n"), ("/d/old", b"o")] {
                let file = disk.create(Path::new(name), 0).unwrap();
                file.write_at(byte, 0).unwrap();
                file.sync().unwrap();
            }
            disk.sync_dir(Path::new("/d")).unwrap();
            disk.rename(Path::new("/d/new"), Path::new("/d/old")).unwrap();
            disk.lose_power(&mut fastrand::Rng::with_seed(seed));
            let mut byte = [0];
            disk.open(Path::new("/d/old")).unwrap().read_at(&mut byte, 0).unwrap();
            let renamed = names(&disk, "/d") == ["old"];
            assert_eq!(byte[0], if renamed { b'n' } else { b'o' });
        }
    }
}
