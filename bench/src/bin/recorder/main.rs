//! A disk that can be cut off at any moment: a file for a loop device, which records all it is told.
//!
//! `recorder FILE BYTES FOLDER` mounts a file of that size on FILE (by FUSE, so as root), empty at first. What it is told goes to
//! FOLDER/record-0; with FOLDER/record-0 from before (`--again`) it is as that leaves it. Commands come on standard input, while
//! nobody uses the file; each gets one line:
//!
//! | command | |
//! |---|---|
//! | `cut LIFE POSITION lost` | the file is now what a cut at that position of record-LIFE leaves, of which record-(LIFE + 1) begins |
//! | `cut LIFE POSITION kept` | the same, with everything that no flush covered |
//! | `cut LIFE POSITION torn SEED UNIT` | the same, with some of it, torn at UNIT bytes |
//! | `flushes LIFE` | where the flushes of a record end |
//!
//! The answer to a cut: how many writes no flush covered, how many of them were kept, how many torn.
//! It ends with its standard input.

mod fuse;
mod life;
mod pages;
mod record;

use fuse::{Answer, Ask, Request, Session};
use life::{Life, Volatile};
use pages::Pages;
use record::{Record, Told};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (again, arguments): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|word| word == "--again");
    let [file, size, folder] = &arguments[..] else {
        eprintln!("usage: recorder FILE BYTES FOLDER [--again]");
        std::process::exit(2);
    };
    let size = size.parse().map_err(io::Error::other)?;
    let mut disk = Disk::new(Path::new(folder), size, !again.is_empty())?;
    let mut session = Session::mount(Path::new(file))?;
    println!("ready");
    disk.run(&mut session)
}

/// The lives of a disk, each the outcome of a cut of the one before; the last is the one that is lived.
struct Disk {
    lives: Vec<Life>,
    folder: PathBuf,
    size: u64,
}

impl Disk {
    fn new(folder: &Path, size: u64, again: bool) -> io::Result<Self> {
        let path = folder.join("record-0");
        let record = if again { Record::open(&path)? } else { Record::create(&path)? };
        let end = record.end();
        let mut life = Life::new(Pages::default(), record);
        if again {
            life.now = life.cut(end, Volatile::Kept)?.0;
        }
        Ok(Self { lives: vec![life], folder: folder.to_owned(), size })
    }

    fn run(&mut self, session: &mut Session) -> io::Result<()> {
        let stdin = io::stdin();
        loop {
            let (asked, commanded) = {
                let mut sources = [
                    PollFd::new(&*session, PollFlags::IN),
                    PollFd::new(&stdin, PollFlags::IN | PollFlags::HUP),
                ];
                poll(&mut sources, None)?;
                (!sources[0].revents().is_empty(), !sources[1].revents().is_empty())
            };
            if asked {
                self.serve(session)?;
            } else if commanded {
                let mut line = String::new();
                if stdin.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                match self.obey(&line.split_whitespace().collect::<Vec<_>>()) {
                    Ok(told) => println!("{told}"),
                    Err(error) => println!("error {error}"),
                }
            }
        }
    }

    /// Answers all requests that have come, one after the other.
    ///
    /// A flush is asked to keep what was answered before it was asked for. So before each answer is given, the requests that
    /// have come are taken over, and remember that this one was not answered yet.
    fn serve(&mut self, session: &mut Session) -> io::Result<()> {
        let mut answered = self.life().record.end();
        session.take_all(answered)?;
        while let Some(request) = session.next() {
            let answer = self.answer(&request)?;
            session.take_all(answered)?;
            if let Some(answer) = answer {
                session.answer(&request, answer)?;
            }
            answered = self.life().record.end();
        }
        Ok(())
    }

    fn answer(&mut self, request: &Request) -> io::Result<Option<Answer>> {
        let size = self.size;
        let life = self.life();
        Ok(Some(match &request.ask {
            Ask::Init => Answer::init(),
            Ask::Attributes => Answer::attributes(size),
            Ask::Open => Answer::open(),
            Ask::Size => Answer::size(size),
            Ask::Nothing => Answer::done(),
            Ask::Forget => return Ok(None),
            Ask::Unknown => Answer::Unknown,
            Ask::Read { at, len } => {
                let mut bytes = vec![0; (*len).min(size.saturating_sub(*at) as usize)];
                life.now.read(*at, &mut bytes);
                Answer::Is(bytes)
            }
            Ask::Write { at, bytes } => {
                life.write(*at, bytes)?;
                Answer::written(bytes.len())
            }
            Ask::Zero { at, len } => {
                life.zero(*at, *len)?;
                Answer::done()
            }
            Ask::Flush => {
                life.record.flush(request.answered)?;
                Answer::done()
            }
        }))
    }

    fn life(&mut self) -> &mut Life {
        self.lives.last_mut().expect("a disk has a life")
    }

    fn obey(&mut self, words: &[&str]) -> io::Result<String> {
        let number =
            |word: &str| word.parse::<u64>().map_err(|_| io::Error::other(format!("{word} is no number")));
        match words {
            ["flushes", life] => {
                let ends =
                    self.lives[number(life)? as usize].record.entries.iter().filter_map(|entry| match entry
                        .told
                    {
                        Told::Flush { .. } => Some(entry.end.to_string()),
                        _ => None,
                    });
                Ok(ends.collect::<Vec<_>>().join(" "))
            }
            ["cut", life, position, how @ ..] => {
                let volatile = match how {
                    ["lost"] => Volatile::Lost,
                    ["kept"] => Volatile::Kept,
                    ["torn", seed, unit] => {
                        Volatile::Torn { seed: number(seed)?, unit: number(unit)? as usize }
                    }
                    _ => return Err(io::Error::other("cut LIFE POSITION lost, kept, or torn SEED UNIT")),
                };
                let life = number(life)? as usize;
                let (pages, left) = self.lives[life].cut(number(position)?, volatile)?;
                self.lives.truncate(life + 1);
                let record = Record::create(&self.folder.join(format!("record-{}", life + 1)))?;
                self.lives.push(Life::new(pages, record));
                Ok(format!("{} {} {}", left.volatile, left.kept, left.torn))
            }
            _ => Err(io::Error::other("cut or flushes")),
        }
    }
}
