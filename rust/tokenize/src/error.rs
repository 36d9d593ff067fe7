//! Why a tokenizer cannot be opened.

use std::fmt;
use std::path::PathBuf;

/// Why a tokenizer cannot be opened. Each says what is wrong, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// A file that has to be there is not.
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says, or the limit that it is over.
        reason: String,
    },
    /// A file is not what it should be.
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The address of a model server is none.
    Address {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { path } => write!(
                formatter,
                "{} does not exist; name a folder with the model's tokenizer.json in it, or the file itself (nothing is ever downloaded)",
                path.display()
            ),
            Self::Unreadable { path, reason } => {
                write!(formatter, "{} cannot be read: {reason}", path.display())
            }
            Self::Invalid { path, reason } => write!(
                formatter,
                "{} cannot be used: {reason}; compare it with the file of the model that the engines serve",
                path.display()
            ),
            Self::Address { url, reason } => write!(
                formatter,
                "{url:?} is not the address of a model server: {reason}; write it like http://localhost:8000"
            ),
        }
    }
}

impl std::error::Error for OpenError {}
