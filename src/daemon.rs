//! Putting the parts together: what `keywheeld` does from start to stop.
