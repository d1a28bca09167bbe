//! The filter language of logs (`contracts/railway.md` 3.3).
