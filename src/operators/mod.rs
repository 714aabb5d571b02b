//! Operators, as extension traits on every RxRust observable.
