/// Keeps the addresses of the Node object those of the host, where they are detected: looks when the kernel tells of a change, and from time
/// to time besides.
///
/// An address that is gone for a moment (a lease renewed, a link that bounces) is no reason to tell the cluster: the object keeps the last
/// one that was found until another is.
import Addresses
public import Datastore
public import Logging
import NetlinkEdge
public import Resources
public import Sockets

public final class AddressMonitor {
  private let loop: EventLoop
  private let startup: NodeStartup
  private let datastore: any Datastore
  private let log: Logger
  private let pollInterval: Duration
  private let monitor: RouteMonitor
  private var look: EventLoop.TimerHandle?
  private var isLooking = false
  private var isDue = false
  /// After the last event, so that a host that gets its addresses one by one is looked at once.
  static let settling: Duration = .milliseconds(500)
  /// Called on the loop's thread after each look; for tests.
  var onLook: () -> Void = {}

  public init(_ startup: NodeStartup, _ datastore: any Datastore, loop: EventLoop, pollInterval: Duration, log: Logger) throws {
    self.startup = startup
    self.datastore = datastore
    self.loop = loop
    self.pollInterval = pollInterval
    self.log = log
    monitor = try RouteMonitor(RouteMonitor.linksAndAddresses, namespace: startup.namespace)
    try loop.add(descriptor: monitor.descriptor, interest: .read) { [unowned self] _ in
      var isNews = false
      if monitor.receive({ _ in isNews = true }) == .overrun { isNews = true }
      if isNews { schedule(after: Self.settling) }
    }
    // What changed between the start and this moment.
    schedule(after: .zero)
  }

  private func schedule(after delay: Duration) {
    look?.cancel()
    look = loop.schedule(after: delay) { [unowned self] in lookNow() }
  }

  private func lookNow() {
    isDue = isLooking
    guard !isLooking else { return }
    isLooking = true
    // This object lives as long as the loop, and is touched on its thread only.
    nonisolated(unsafe) let this = self
    Task.detached { [startup, datastore, log, mailbox = loop.mailbox] in
      do {
        if let change = try await startup.follow(datastore) { log.notice("\(change)") }
      } catch {
        log.warning("following this host's addresses: \(error)")
      }
      mailbox.post { unsafe this.looked() }
    }
  }

  private func looked() {
    isLooking = false
    if isDue {
      lookNow()
    } else if pollInterval > .zero {
      schedule(after: pollInterval)
    }
    onLook()
  }
}

extension NodeStartup {
  /// Brings the stored addresses up to date. What was changed, in words; nil: nothing, or an address is not found at present.
  public func follow(_ datastore: any Datastore) async throws -> String? {
    let key = ResourceKey(.node, name: name)
    guard case .node(let before)? = try await ResourceStore(datastore).get(key)?.resource.spec else { return nil }
    var fixed = self
    for (family, choice) in choices {
      guard case .detected(let method) = choice else { continue }
      let internalAddresses = before.addresses.filter { $0.type == "InternalIP" }.compactMap { IPAddress($0.address) }
      let stored = family == .v4 ? before.bgp?.ipv4Address : before.bgp?.ipv6Address
      let found = try? address(family, stored: stored, internalAddresses: internalAddresses)
      fixed.choices[family] = (found ?? stored).map { .given($0) } ?? .stored(orElse: method)
    }
    guard case .node(let after) = try await fixed.run(datastore).spec, after.bgp != before.bgp else { return nil }
    func text(_ spec: NodeSpec) -> String {
      [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address].compactMap { $0.map { "\($0)" } }.joined(separator: ", ")
    }
    return "the addresses of node \(name) are \(text(after)) now, and were \(text(before))"
  }
}
