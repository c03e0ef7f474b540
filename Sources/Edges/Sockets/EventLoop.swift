/// One thread, one epoll: the runner of every daemon. Inputs become ready, their handlers run here one after another, so that
/// whatever they touch needs no lock.
///
/// Hazards and the answers:
/// - A handler cancels a watch whose event is already in this round: events carry a token that is never used twice, and a token
///   without a watch is skipped.
/// - A descriptor number is closed and used again: likewise. Cancel the watch before closing the descriptor.
/// - Other threads: they may only use the `Mailbox`.

import CLinux
import Glibc
import Synchronization

/// What a watch waits for, and what became true.
public struct Interest: OptionSet, Sendable, Hashable {
  public let rawValue: UInt8
  public init(rawValue: UInt8) { self.rawValue = rawValue }
  public static let read = Interest(rawValue: 1)
  public static let write = Interest(rawValue: 2)
  /// Only in what a handler receives: the other side hung up or the descriptor has an error. Read to learn which.
  public static let hangup = Interest(rawValue: 4)

  var events: UInt32 {
    (contains(.read) ? UInt32(CL_EPOLLIN) : 0) | (contains(.write) ? UInt32(CL_EPOLLOUT) : 0)
  }
  init(events: UInt32) {
    var interest: Interest = []
    let broken = events & (UInt32(CL_EPOLLERR) | UInt32(CL_EPOLLHUP)) != 0
    if events & UInt32(CL_EPOLLIN) != 0 { interest.insert(.read) }
    if events & UInt32(CL_EPOLLOUT) != 0 { interest.insert(.write) }
    if broken { interest.insert(.hangup) }
    self = interest
  }
}

/// Not Sendable: create, add and run on one thread (or hand the whole loop over before it runs). `mailbox` may go anywhere.
public final class EventLoop {
  /// The way in for other threads.
  ///
  /// Sendable: the queue is behind a mutex, and the eventfd is a constant that lives as long as this object.
  public final class Mailbox: Sendable {
    private struct State {
      var pending: [@Sendable () -> Void] = []
      var stopped = false
    }
    private let state = Mutex(State())
    let descriptor: OwnedDescriptor

    init() throws(SystemError) {
      descriptor = OwnedDescriptor(owning: try check(cl_eventfd(), "create an eventfd"))
    }
    /// Runs `work` on the loop's thread, in the order of posting. Work posted after the loop stopped never runs.
    public func post(_ work: @escaping @Sendable () -> Void) {
      let wasEmpty = state.withLock { state in
        state.pending.append(work)
        return state.pending.count == 1
      }
      if wasEmpty { wake() }
    }
    /// Ends `run()` after the handler that is running now.
    public func stop() {
      state.withLock { $0.stopped = true }
      wake()
    }
    var isStopped: Bool { state.withLock { $0.stopped } }
    func resume() { state.withLock { $0.stopped = false } }
    func take() -> [@Sendable () -> Void] {
      drainCounter(descriptor.borrowed)
      return state.withLock { state in
        let pending = state.pending
        state.pending = []
        return pending
      }
    }
    private func wake() {
      var one: UInt64 = 1
      _ = unsafe Glibc.write(descriptor.borrowed, &one, 8)
    }
  }

  /// One watched descriptor. It stays watched until cancelled, also when this handle is dropped.
  public final class Watch {
    let descriptor: CInt
    let token: UInt64
    fileprivate var handler: (Interest) -> Void
    fileprivate var interest: Interest
    fileprivate weak var loop: EventLoop?

    fileprivate init(descriptor: CInt, token: UInt64, interest: Interest, loop: EventLoop, handler: @escaping (Interest) -> Void) {
      self.descriptor = descriptor
      self.token = token
      self.interest = interest
      self.loop = loop
      self.handler = handler
    }
    public func modify(_ interest: Interest) {
      guard let loop, interest != self.interest else { return }
      self.interest = interest
      _ = cl_epoll_control(loop.epoll.borrowed, CInt(CL_EPOLL_MOD), descriptor, interest.events, token)
    }
    /// Call before closing the descriptor. Harmless when repeated.
    public func cancel() {
      guard let loop else { return }
      self.loop = nil
      loop.watches[token] = nil
      _ = cl_epoll_control(loop.epoll.borrowed, CInt(CL_EPOLL_DEL), descriptor, 0, 0)
    }
  }

  /// One pending call; fires at most once.
  public final class TimerHandle {
    public let deadline: MonotonicInstant
    fileprivate let order: UInt64
    fileprivate var handler: (() -> Void)?
    fileprivate init(deadline: MonotonicInstant, order: UInt64, handler: @escaping () -> Void) {
      self.deadline = deadline
      self.order = order
      self.handler = handler
    }
    public var isPending: Bool { handler != nil }
    /// Harmless after it fired.
    public func cancel() { handler = nil }
  }

  public let mailbox: Mailbox
  fileprivate let epoll: OwnedDescriptor
  private let timer: OwnedDescriptor
  fileprivate var watches: [UInt64: Watch] = [:]
  private var tokenLast: UInt64 = 2
  private var timers = TimerHeap()
  private var armed: MonotonicInstant?
  private var signals: [OwnedDescriptorBox] = []
  /// The time of the round that runs: read once per wake-up.
  public private(set) var roundStart: MonotonicInstant = .now

  private static let mailboxToken: UInt64 = 1
  private static let timerToken: UInt64 = 2

  public init() throws(SystemError) {
    epoll = OwnedDescriptor(owning: try check(cl_epoll_create(), "create an epoll"))
    timer = OwnedDescriptor(owning: try check(cl_timerfd(), "create a timerfd"))
    mailbox = try Mailbox()
    let add = CInt(CL_EPOLL_ADD)
    let read = Interest.read.events
    try check(cl_epoll_control(epoll.borrowed, add, mailbox.descriptor.borrowed, read, Self.mailboxToken), "watch an eventfd")
    try check(cl_epoll_control(epoll.borrowed, add, timer.borrowed, read, Self.timerToken), "watch a timerfd")
  }

  public var now: MonotonicInstant { .now }

  /// Level-triggered: the handler runs as long as the descriptor is ready. It must stay open until `cancel()`.
  @discardableResult
  public func add(descriptor: CInt, interest: Interest, handler: @escaping (Interest) -> Void) throws(SystemError) -> Watch {
    tokenLast += 1
    let watch = Watch(descriptor: descriptor, token: tokenLast, interest: interest, loop: self, handler: handler)
    let result = cl_epoll_control(epoll.borrowed, CInt(CL_EPOLL_ADD), descriptor, interest.events, tokenLast)
    try check(result, "watch descriptor \(descriptor)")
    watches[tokenLast] = watch
    return watch
  }

  @discardableResult
  public func schedule(after delay: Duration, _ handler: @escaping () -> Void) -> TimerHandle {
    schedule(at: .now + max(delay, .zero), handler)
  }

  @discardableResult
  public func schedule(at deadline: MonotonicInstant, _ handler: @escaping () -> Void) -> TimerHandle {
    tokenLast += 1
    let handle = TimerHandle(deadline: deadline, order: tokenLast, handler: handler)
    timers.insert(handle)
    arm()
    return handle
  }

  /// From this thread or, through `mailbox`, from any.
  public func post(_ work: @escaping @Sendable () -> Void) { mailbox.post(work) }
  public func stop() { mailbox.stop() }

  /// From here on the signals come to `handler`, on the loop's thread, instead of ending the program.
  public func onSignal(_ numbers: [CInt], _ handler: @escaping (CInt) -> Void) throws(SystemError) {
    let descriptor = try check(unsafe cl_watch_signals(numbers, CInt(numbers.count)), "watch signals")
    signals.append(OwnedDescriptorBox(OwnedDescriptor(owning: descriptor)))
    try add(descriptor: descriptor, interest: .read) { _ in
      while true {
        let number = cl_watched_signal(descriptor)
        guard number > 0 else { return }
        handler(number)
      }
    }
  }

  /// Forgets every watch and timer, once nothing shall run any more: handlers hold what they work on, often the loop itself, and would keep
  /// each other for ever.
  public func clear() {
    for watch in Array(watches.values) { watch.cancel() }
    timers = TimerHeap()
  }

  /// Runs handlers until `stop()`.
  public func run() {
    while !mailbox.isStopped { turn(wait: true) }
    mailbox.resume()
  }

  /// Handles what is ready now; with `wait`, sleeps until something is.
  public func turn(wait: Bool) {
    var events = [cl_event](repeating: cl_event(), count: 64)
    let count = unsafe cl_epoll_wait(epoll.borrowed, &events, 64, wait ? -1 : 0)
    guard count > 0 else {
      precondition(count == 0 || errno == EINTR, "epoll_wait fails only when its arguments are wrong")
      return
    }
    roundStart = .now
    for index in 0..<Int(count) {
      let token = events[index].token
      switch token {
      case Self.mailboxToken:
        for work in mailbox.take() { work() }
      case Self.timerToken:
        drainCounter(timer.borrowed)
        armed = nil
        fire()
      default:
        // Nil: an earlier handler of this round cancelled it.
        guard let watch = watches[token] else { continue }
        watch.handler(Interest(events: events[index].events))
      }
      if mailbox.isStopped { return }
    }
  }

  /// Only what was due when the round began: a handler that schedules itself with no delay must not starve the descriptors.
  private func fire() {
    let now = MonotonicInstant.now
    var due: [TimerHandle] = []
    while let first = timers.first, first.deadline <= now {
      timers.removeFirst()
      due.append(first)
    }
    for handle in due {
      guard let handler = handle.handler else { continue }
      handle.handler = nil
      handler()
    }
    arm()
  }

  private func arm() {
    while let first = timers.first, first.handler == nil { timers.removeFirst() }
    let deadline = timers.first?.deadline
    guard deadline != armed else { return }
    armed = deadline
    _ = cl_timerfd_set(timer.borrowed, deadline.map { max($0.nanoseconds, 1) } ?? 0)
  }
}

/// Keeps a descriptor in a place that needs a copyable value.
final class OwnedDescriptorBox {
  let descriptor: OwnedDescriptor
  init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
}

/// Empties an eventfd or timerfd.
func drainCounter(_ descriptor: CInt) {
  var counter: UInt64 = 0
  _ = unsafe Glibc.read(descriptor, &counter, 8)
}

/// A binary heap by deadline, then by order of scheduling. Cancelled timers stay until they come to the top.
struct TimerHeap {
  private var items: [EventLoop.TimerHandle] = []
  var first: EventLoop.TimerHandle? { items.first }

  private func precedes(_ a: Int, _ b: Int) -> Bool {
    (items[a].deadline, items[a].order) < (items[b].deadline, items[b].order)
  }
  mutating func insert(_ item: EventLoop.TimerHandle) {
    // Timers that are re-armed all the time and never fire (BGP hold timers) would otherwise pile up.
    if items.count >= 1024, items.count == items.capacity {
      let live = items.filter(\.isPending)
      if live.count < items.count / 2 { items = live.sorted { ($0.deadline, $0.order) < ($1.deadline, $1.order) } }
    }
    items.append(item)
    var index = items.count - 1
    while index > 0, precedes(index, (index - 1) / 2) {
      items.swapAt(index, (index - 1) / 2)
      index = (index - 1) / 2
    }
  }
  mutating func removeFirst() {
    guard let last = items.popLast(), !items.isEmpty else { return }
    items[0] = last
    var index = 0
    while true {
      var least = index
      for child in [2 * index + 1, 2 * index + 2] where child < items.count && precedes(child, least) { least = child }
      if least == index { return }
      items.swapAt(least, index)
      index = least
    }
  }
}
