/// Where a daemon's log goes and from which level on, from Felix's settings.
public import Logging
public import Resources

public struct LogPlan: Hashable, Sendable {
  public struct File: Hashable, Sendable {
    public var path: String
    public var level: Logger.Level
    public init(path: String, level: Logger.Level) { (self.path, self.level) = (path, level) }
  }
  /// Standard error.
  public var screen: Logger.Level?
  public var file: File?
  /// The host's syslog.
  public var system: Logger.Level?
  /// The syslog was asked for, so that its absence is worth a word.
  public var wantsSystem = false
  public init(screen: Logger.Level? = .info, file: File? = nil, system: Logger.Level? = nil) {
    (self.screen, self.file, self.system) = (screen, file, system)
  }

  /// `isHosts`: this is the host's own daemon, which takes Calico's places where nothing is said. Of many on one machine, in tests and labs,
  /// each would write into the others' logs: they write to standard error alone, unless they are told.
  public init(_ settings: FelixConfigurationSpec, isHosts: Bool) {
    func level(_ field: String) -> Logger.Level? { settings.text(field).map(Self.level) ?? .info }
    screen = level("logSeverityScreen")
    if let path = settings.path("logFilePath", usual: isHosts ? "/var/log/calico/felix.log" : ""), let level = level("logSeverityFile") {
      file = File(path: path, level: level)
    }
    wantsSystem = settings.text("logSeveritySys") != nil
    system = isHosts || wantsSystem ? level("logSeveritySys") : nil
  }

  /// Felix's words, and this program's own; nil is no log at all.
  static func level(_ word: String) -> Logger.Level? {
    switch word.lowercased() {
    case "none": nil
    case "fatal": .critical
    case let word: Logger.Level(rawValue: word) ?? .info
    }
  }
  public var lowest: Logger.Level { [screen, file?.level, system].compactMap { $0 }.min() ?? .critical }
}
