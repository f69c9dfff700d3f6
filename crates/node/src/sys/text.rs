//! The program's own code in memory.

use std::io;
use std::ops::Range;

/// Takes the code of this program out of the process's memory; what is used comes back from the
/// kernel's cache of the file, at no more than a page fault. Returns the bytes that may come back.
///
/// A start runs nearly all of a program once, and the kernel maps 64 KiB around each page that is
/// touched. Those pages count as this process's, and under pressure they are looked at last.
///
/// # Errors
/// If the kernel does not say what is mapped, or does not take it out (memory that is locked).
pub fn forget_text() -> io::Result<usize> {
    let program = std::env::current_exe()?;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let mut forgotten = 0;
    for text in ranges(&maps, &program.to_string_lossy()) {
        let start = std::ptr::with_exposed_provenance_mut(text.start);
        // SAFETY: the range is a private mapping of a file that may be read and executed but not
        // written, neither by us nor, while it runs, by others: every page of it comes back as it
        // was.
        super::check(unsafe { libc::madvise(start, text.len(), libc::MADV_DONTNEED) })?;
        forgotten += text.len();
    }
    Ok(forgotten)
}

/// Where the code of a program lies: what may be executed and not be written.
fn ranges(maps: &str, program: &str) -> Vec<Range<usize>> {
    let range = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (addresses, permissions) = (fields.next()?, fields.next()?);
        let path = line.find('/').map(|at| &line[at..])?;
        if permissions != "r-xp" || path != program {
            return None;
        }
        let (start, end) = addresses.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        Some(number(start)?..number(end)?)
    };
    maps.lines().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_the_program_itself_is_taken_out() {
        let maps = "\
5000-6000 r--p 00000000 fe:00 1 /opt/the program
6000-9000 r-xp 00001000 fe:00 1 /opt/the program
9000-a000 r--p 00004000 fe:00 1 /opt/the program
a000-b000 rw-p 00005000 fe:00 1 /opt/the program
b000-c000 rwxp 00005000 fe:00 1 /opt/the program
d000-e000 r-xp 00001000 fe:00 2 /lib/libc.so.6
e000-f000 r-xp 00000000 00:00 0 [vdso]
";
        let all = ranges(maps, "/opt/the program");
        assert_eq!(all, std::iter::once(0x6000..0x9000).collect::<Vec<_>>());
        assert!(ranges(maps, "/opt/the").is_empty());
    }

    #[test]
    fn the_program_goes_on_without_what_was_taken_out() {
        let program = std::env::current_exe().expect("a program");
        let resident = || -> usize {
            let smaps = std::fs::read_to_string("/proc/self/smaps").expect("maps");
            let mut is_text = false;
            let mut kib = 0;
            for line in smaps.lines() {
                if line.contains('-') && line.split(' ').nth(1).is_some_and(|it| it.len() == 4) {
                    is_text = !ranges(line, &program.to_string_lossy()).is_empty();
                } else if let Some(rss) = line.strip_prefix("Rss:").filter(|_| is_text) {
                    let number = rss.trim().trim_end_matches(" kB");
                    kib += number.trim().parse::<usize>().expect("a number");
                }
            }
            kib
        };
        let before = resident();
        let forgotten = forget_text().expect("taken out");
        let after = resident();
        assert!(
            forgotten > 0 && after < before,
            "{before} KiB, then {after}"
        );
    }
}
