//! `tag_filter` as a method of servers and groups: they are told which tag is heard.

/// Gives `$Type`, whose source has a tag `only`, a `tag_filter` of its own.
macro_rules! tag_filter {
    ($Type:ident, $Source:ident) => {
        impl<D: WsDatatype> $Type<D> {
            /// Passes on the items of one tag: [`ObservableExt::tag_filter`](crate::ObservableExt::tag_filter), straight behind
            /// the endpoint. Messages of tags that no subscriber hears are then not even copied for it, which is most of what a
            /// subscriber costs those who speak on other tags.
            ///
            /// ```no_run
            /// # use rxplus::prelude::*;
            #[doc = concat!("# fn chat(endpoint: &", stringify!($Type), "<WsStr>) {")]
            /// endpoint.clone().tag_filter("/chat").untag().log_errors().subscribe(|text| println!("{text}"));
            /// # }
            /// ```
            pub fn tag_filter(self, tag: impl Into<Tag>) -> $crate::Io<$crate::operators::TagFilter<$Source<D>, Tag>> {
                let (tag, Self { inner, scheduler }) = (tag.into(), self);
                let inner = $Source { only: Some(tag.clone()), ..inner };
                $crate::ObservableExt::tag_filter(Self { inner, scheduler }, tag)
            }
        }
    };
}
pub(crate) use tag_filter;
