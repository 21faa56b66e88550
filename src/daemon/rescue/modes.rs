//! Terminal modes as SSH encodes them (RFC 4254 section 8, RFC 8160 for IUTF8), in a terminal's settings. Pure.

use rustix::termios::{InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios};

/// A client's way to say that a character has no function; Linux has 0 for that (`_POSIX_VDISABLE`).
const DISABLED: u32 = 255;

const CHARACTERS: [(u8, SpecialCodeIndex); 15] = [
    (1, SpecialCodeIndex::VINTR),
    (2, SpecialCodeIndex::VQUIT),
    (3, SpecialCodeIndex::VERASE),
    (4, SpecialCodeIndex::VKILL),
    (5, SpecialCodeIndex::VEOF),
    (6, SpecialCodeIndex::VEOL),
    (7, SpecialCodeIndex::VEOL2),
    (8, SpecialCodeIndex::VSTART),
    (9, SpecialCodeIndex::VSTOP),
    (10, SpecialCodeIndex::VSUSP),
    (12, SpecialCodeIndex::VREPRINT),
    (13, SpecialCodeIndex::VWERASE),
    (14, SpecialCodeIndex::VLNEXT),
    (16, SpecialCodeIndex::VSWTC),
    (18, SpecialCodeIndex::VDISCARD),
];

const INPUT: [(u8, InputModes); 13] = [
    (30, InputModes::IGNPAR),
    (31, InputModes::PARMRK),
    (32, InputModes::INPCK),
    (33, InputModes::ISTRIP),
    (34, InputModes::INLCR),
    (35, InputModes::IGNCR),
    (36, InputModes::ICRNL),
    (37, InputModes::IUCLC),
    (38, InputModes::IXON),
    (39, InputModes::IXANY),
    (40, InputModes::IXOFF),
    (41, InputModes::IMAXBEL),
    (42, InputModes::IUTF8),
];

const LOCAL: [(u8, LocalModes); 13] = [
    (50, LocalModes::ISIG),
    (51, LocalModes::ICANON),
    (52, LocalModes::XCASE),
    (53, LocalModes::ECHO),
    (54, LocalModes::ECHOE),
    (55, LocalModes::ECHOK),
    (56, LocalModes::ECHONL),
    (57, LocalModes::NOFLSH),
    (58, LocalModes::TOSTOP),
    (59, LocalModes::IEXTEN),
    (60, LocalModes::ECHOCTL),
    (61, LocalModes::ECHOKE),
    (62, LocalModes::PENDIN),
];

const OUTPUT: [(u8, OutputModes); 6] = [
    (70, OutputModes::OPOST),
    (71, OutputModes::OLCUC),
    (72, OutputModes::ONLCR),
    (73, OutputModes::OCRNL),
    (74, OutputModes::ONOCR),
    (75, OutputModes::ONLRET),
];

const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;

/// Changes what the modes name and leaves everything else. Unknown ones are ignored, as the RFC wants it; so are bits per
/// character and parity, which a pseudo-terminal doesn't have (`pty_set_termios` in drivers/tty/pty.c).
pub fn apply(modes: &[(u8, u32)], settings: &mut Termios) {
    for &(opcode, argument) in modes {
        let on = argument != 0;
        if let Some((_, index)) = CHARACTERS.iter().find(|(code, _)| *code == opcode) {
            if let Ok(character) = u8::try_from(if argument == DISABLED { 0 } else { argument }) {
                settings.special_codes[*index] = character;
            }
        } else if let Some((_, mode)) = INPUT.iter().find(|(code, _)| *code == opcode) {
            settings.input_modes.set(*mode, on);
        } else if let Some((_, mode)) = LOCAL.iter().find(|(code, _)| *code == opcode) {
            settings.local_modes.set(*mode, on);
        } else if let Some((_, mode)) = OUTPUT.iter().find(|(code, _)| *code == opcode) {
            settings.output_modes.set(*mode, on);
        } else if on {
            match opcode {
                // Nothing on this side has a speed; a program may ask for it all the same.
                INPUT_SPEED => drop(settings.set_input_speed(argument)),
                OUTPUT_SPEED => drop(settings.set_output_speed(argument)),
                _ => {}
            }
        }
    }
}
