/// What holds for every decoder, whatever octets it is given: one target for each, shared by the fuzzer (`Fuzz/`) and by the tests, which
/// replay all seeds and everything that was ever found.
///
/// A target does more than not to crash. Where a value can be written, reading what was written gives it again; where two readers exist,
/// they agree; where a document prescribes the reaction to a fault, a naive reading of that document judges ours.

/// What a target found to be untrue.
public struct Violation: Error, Equatable, Sendable, CustomStringConvertible {
  public let description: String
  public init(_ description: String) { self.description = description }
}

public enum FuzzTarget: String, CaseIterable, Sendable {
  case json
  /// YAML and JSON texts as somebody applies them.
  case documents
  /// Values as they stand in a datastore, whoever wrote them.
  case stored
  /// A document and a patch of each kind for it, and the differences of texts.
  case patches
  case selectors
  /// Templates, paths, columns and label filters of whoever asks for objects.
  case forms
  /// Everything that is parsed from one short text: addresses, prefixes, names, keys, times, numbers.
  case texts
  case blocks
  /// An octet stream, cut anywhere.
  case bgpStream = "bgp-stream"
  case bgpOpen = "bgp-open"
  case bgpUpdate = "bgp-update"
  case bgpNotification = "bgp-notification"
  case netlink
  case rulesets
  case cni
  case etcd
  /// Topology files of the lab.
  case topology
  /// Inputs in any order to the state machine of one BGP session.
  case session
  /// Inputs in any order to the RIBs.
  case routes

  /// Throws if a property does not hold for these octets; traps where the code under test does.
  public func check(_ octets: [UInt8]) throws(Violation) {
    switch self {
    case .json: try checkJSON(octets)
    case .documents: try checkDocuments(octets)
    case .stored: try checkStored(octets)
    case .patches: try checkPatches(octets)
    case .selectors: try checkSelectors(octets)
    case .forms: try checkForms(octets)
    case .texts: try checkTexts(octets)
    case .blocks: try checkBlock(octets)
    case .bgpStream: try checkStream(octets)
    case .bgpOpen: try checkOpen(octets)
    case .bgpUpdate: try checkUpdate(octets)
    case .bgpNotification: try checkNotification(octets)
    case .netlink: try checkNetlink(octets)
    case .rulesets: try checkRuleset(octets)
    case .cni: try checkCNI(octets)
    case .etcd: try checkEtcd(octets)
    case .topology: try checkTopology(octets)
    case .session: try checkSession(octets)
    case .routes: try checkRoutes(octets)
    }
  }
}

func claim(_ holds: Bool, _ otherwise: @autoclosure () -> String) throws(Violation) {
  if !holds { throw Violation(otherwise()) }
}

/// Octets taken one after the other as choices; zeros once they are used up.
struct Choices {
  private let octets: [UInt8]
  private var at = 0
  init(_ octets: [UInt8]) { self.octets = octets }
  var isAtEnd: Bool { at >= octets.count }
  mutating func octet() -> UInt8 {
    guard at < octets.count else { return 0 }
    defer { at += 1 }
    return octets[at]
  }
  mutating func number(below limit: Int) -> Int { Int(octet()) % limit }
  mutating func flag() -> Bool { octet() & 1 == 1 }
  mutating func rest() -> [UInt8] {
    defer { at = octets.count }
    return Array(octets[min(at, octets.count)...])
  }
}

/// Swift compares strings by what they look like; files, hashes and other programs compare octets. So do these.
func isSame(_ a: String, _ b: String) -> Bool { a.utf8.elementsEqual(b.utf8) }
