/// When what the kernel holds is read back, against changes that nobody tells of: each part at its own pace, changed in place.
import Resources
import Sockets

final class Refreshing {
  enum Part: CaseIterable {
    case routes, links, rules
    /// The setting, and what holds without it.
    var interval: (field: String, usual: Duration) {
      switch self {
      case .routes: ("routeRefreshInterval", .seconds(90))
      case .links: ("interfaceRefreshInterval", .seconds(90))
      case .rules: ("nftablesRefreshInterval", .seconds(180))
      }
    }
  }
  private let loop: EventLoop
  private let everything: Duration?
  private var running: [Part: (every: Duration, timer: EventLoop.TimerHandle?)] = [:]
  var refresh: (Part) -> Void = { _ in }

  /// `everything`: instead of each part's own default.
  init(loop: EventLoop, everything: Duration?) {
    self.loop = loop
    self.everything = everything
  }

  func adopt(_ settings: FelixConfigurationSpec) {
    for part in Part.allCases {
      // Read back more often than once a second, nothing else would be done.
      let wanted = settings.duration(part.interval.field).map { $0 > .zero ? max($0, .seconds(1)) : .zero }
      let every = wanted ?? everything ?? part.interval.usual
      guard running[part]?.every != every else { continue }
      running[part]?.timer?.cancel()
      running[part] = (every, nil)
      schedule(part, every)
    }
  }

  private func schedule(_ part: Part, _ every: Duration) {
    // 0 says never, as in Calico.
    guard every > .zero else { return }
    running[part]?.timer = loop.schedule(after: every) { [weak self] in
      guard let self else { return }
      refresh(part)
      schedule(part, every)
    }
  }
}
