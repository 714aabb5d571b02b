//! Programs that the compiler refuses, as in the table of `docs/guide/compiler_errors.md`, and their working forms.

/// A subscriber that is a closure cannot be told of an error: `MapObserver<FnMutObserver<_>, ..>: Observer<..>` is not
/// satisfied. The endpoints themselves have a `subscribe` that logs it.
///
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.map(|text| text.len()).subscribe(|len| println!("{len}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.map(|text| text.len()).log_errors().subscribe(|len| println!("{len}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.map(|text| text.len()).on_error(|error| eprintln!("{error:?}")).subscribe(|len| println!("{len}"));
/// # }
/// ```
struct ForgottenLogErrors;

/// Sources that are combined have one error type: expected `WsError`, found `Infallible`.
///
/// ```compile_fail,E0271
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.take_until(Io::timer(Duration::from_secs(1))).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.take_until(Io::timer(Duration::from_secs(1)).with_err()).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
struct ForgottenWithErr;

/// `throttle_time` is for sources that cannot fail: expected `WsError`, found `Infallible`.
///
/// ```compile_fail,E0271
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client
///     .throttle_time(Duration::from_secs(1), ThrottleEdge::leading())
///     .log_errors()
///     .subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client
///     .log_errors()
///     .throttle_time(Duration::from_secs(1), ThrottleEdge::leading())
///     .subscribe(|text| println!("{text}"));
/// # }
/// ```
struct ThrottledBeforeLogErrors;

/// The subscription outlives the function: closure may outlive the current function, but it borrows `count`.
///
/// ```compile_fail,E0373
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let mut count = 0;
/// client.subscribe(|_| count += 1);
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.scan(0, |count, _| count + 1).log_errors().subscribe(|count| println!("{count}"));
/// # }
/// ```
struct ClosureThatBorrows;

/// Callbacks run on the I/O thread: `Rc<..>` cannot be sent between threads safely.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let name = std::rc::Rc::new("chat");
/// client.subscribe(move |text| println!("{name}: {text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let name = std::sync::Arc::new("chat");
/// client.subscribe(move |text| println!("{name}: {text}"));
/// # }
/// ```
struct ClosureThatIsNotSend;

/// Endpoints convert the items given to them: type annotations needed, cannot satisfy `_: From<String>`.
///
/// ```compile_fail,E0283
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.clone().map(|text| text.to_uppercase().into()).subscribe_with(client);
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.clone().map(|text| text.to_uppercase()).subscribe_with(client);
/// # }
/// ```
struct IntoBeforeAnEndpoint;

/// Operators, `subscribe` and `complete` consume a handle: borrow of moved value: `client`.
///
/// ```compile_fail,E0382
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.subscribe(|text| println!("{text}"));
/// client.next("hello");
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.clone().subscribe(|text| println!("{text}"));
/// client.next("hello");
/// # }
/// ```
struct HandleUsedUp;

/// What a callback returns would be lost: expected `()`, found `SerializedSubscription`.
///
/// ```compile_fail,E0308
/// # use rxplus::prelude::*;
/// # fn program(server: RxWsServer<WsStr>) {
/// server.connections().subscribe(|connection| connection.clone().subscribe_with(connection));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(server: RxWsServer<WsStr>) {
/// server.connections().subscribe(|connection| {
///     connection.clone().subscribe_with(connection);
/// });
/// # }
/// ```
struct CallbackThatReturns;

/// Servers and groups want to know the path: `RxWsServer<..>: Observer<WsText, WsError>` is not satisfied.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>, server: RxWsServer<WsStr>) {
/// client.subscribe_with(server);
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>, server: RxWsServer<WsStr>) {
/// client.tag("/relayed").subscribe_with(server);
/// # }
/// ```
struct ForgottenTag;

/// A constructor of RxRust's that takes a closure wants a pipeline from it: expected `SharedCtx<_, IoScheduler>`, found
/// `RxWsClient<WsStr>`.
///
/// ```compile_fail,E0308
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// Io::defer(move || client).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// Io::defer(move || client.box_it()).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
struct DeferredEndpoint;

/// RxRust 1.0.0-rc.6 cannot merge what comes out of `switch_map`: type mismatch resolving
/// `<SwitchMap<..> as CoreObservable<..>>::Unsub`.
///
/// ```compile_fail,E0271
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>, other: RxWsClient<WsStr>) {
/// let followed = other.clone();
/// client.switch_map(move |_| followed.clone()).merge(other).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>, other: RxWsClient<WsStr>) {
/// let followed = other.clone();
/// client.switch_map(move |_| followed.clone()).box_it().merge(other).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
struct MergedSwitchMap;

/// Whom `retry` subscribes anew must be `Clone`: `Screen: Clone` is not satisfied.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// struct Screen;
/// # impl Observer<WsText, WsError> for Screen {
/// #     fn next(&mut self, _: WsText) {}
/// #     fn error(self, _: WsError) {}
/// #     fn complete(self) {}
/// #     fn is_closed(&self) -> bool { false }
/// # }
/// # fn program(client: RxWsClient<WsStr>) {
/// client.retry(3).subscribe_with(Screen);
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// #[derive(Clone)]
/// struct Screen;
/// # impl Observer<WsText, WsError> for Screen {
/// #     fn next(&mut self, _: WsText) {}
/// #     fn error(self, _: WsError) {}
/// #     fn complete(self) {}
/// #     fn is_closed(&self) -> bool { false }
/// # }
/// # fn program(client: RxWsClient<WsStr>) {
/// client.retry(3).subscribe_with(Screen);
/// # }
/// ```
struct RetriedWithoutClone;

/// The number of a call is an `u64`: `Option<u64>: From<u32>` is not satisfied.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let calls = client.calls(|text| text.len() as u32);
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let calls = client.calls(|text| text.len() as u64);
/// # }
/// ```
struct CallsByNarrowNumbers;

/// The call gives the number: expected a `FnOnce(u64)` closure, found `&str`.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(calls: Calls<WsStr>) {
/// drop(calls.call("7 voltage"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(calls: Calls<WsStr>) {
/// drop(calls.call(|id| format!("{id} voltage")));
/// # }
/// ```
struct CallWithoutItsNumber;

/// The error of `timeout` is a `WsError`: expected `WsError`, found `Infallible`.
///
/// ```compile_fail,E0271
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.log_errors().timeout(Duration::from_secs(1)).subscribe(|text| println!("{text}"));
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// client.timeout(Duration::from_secs(1)).log_errors().subscribe(|text| println!("{text}"));
/// # }
/// ```
struct TimeoutBehindLogErrors;

/// A parameter of a path is a `str`: the size for values of type `str` cannot be known at compilation time.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(path: PathMatch) {
/// let room = path["room"];
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(path: PathMatch) {
/// let room = &path["room"];
/// # }
/// ```
struct UnsizedParameter;

/// A reply without a number is `None`: `Option<u64>: From<Result<u64, ParseIntError>>` is not satisfied.
///
/// ```compile_fail,E0277
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let calls = client.calls(|text| text.parse::<u64>());
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(client: RxWsClient<WsStr>) {
/// let calls = client.calls(|text| text.parse::<u64>().ok());
/// # }
/// ```
struct CallsByResults;

/// The error of a sink is a `WsError`: expected `Infallible`, found `WsError`.
///
/// ```compile_fail,E0271
/// # use futures::StreamExt;
/// # use rxplus::prelude::*;
/// # async fn program(client: RxWsClient<WsStr>) -> Result<(), WsError> {
/// let source = Io::of("hello".to_owned());
/// source.into_bounded_stream(16, Lossy::DropOldest).forward(client.sink()).await
/// # }
/// ```
/// ```
/// # use futures::StreamExt;
/// # use rxplus::prelude::*;
/// # async fn program(client: RxWsClient<WsStr>) -> Result<(), WsError> {
/// let source = Io::of("hello".to_owned());
/// source.with_err().into_bounded_stream(16, Lossy::DropOldest).forward(client.sink()).await
/// # }
/// ```
struct ForwardOfWhatCannotFail;

/// A key does not borrow from its item: lifetime may not live long enough.
///
/// ```compile_fail
/// # use rxplus::prelude::*;
/// # fn program(server: ServerBuilder<WsStr>) {
/// server.conflate(|_path, quote| quote.split(' ').next());
/// # }
/// ```
/// ```
/// # use rxplus::prelude::*;
/// # fn program(server: ServerBuilder<WsStr>) {
/// server.conflate(|_path, quote| quote.split(' ').next().map(str::to_owned));
/// # }
/// ```
struct BorrowedKey;
