/// Values as the configuration file and the environment write them: one text each, in Calico's spelling.
///
/// Numbers without a unit are seconds, or milliseconds where the name says so; a duration with a unit is taken as well. The word `none` in
/// any case of letters means the empty value, also where a weaker place gives one.
import Addresses
import Names
public import Resources
import Selectors

/// Why a text is no value of a setting: the rest of a sentence that begins with it.
public struct SettingFault: Error, Hashable, Sendable, CustomStringConvertible {
  public let description: String
}

extension FelixParameter {
  public func value(of written: String) throws(SettingFault) -> FelixParameterValue {
    let text = written.trimmed
    if text.lowercased() == "none", let empty { return empty }
    func number(_ range: ClosedRange<Int64>) throws(SettingFault) -> Int64 {
      let lower = text.lowercased()
      guard let number = lower.hasPrefix("0x") ? Int64(lower.dropFirst(2), radix: 16) : Int64(text) else { throw fault("is not a number") }
      if range.contains(number) { return number }
      throw fault("is not a whole number from \(range.lowerBound) to \(range.upperBound)")
    }
    func each<Element>(_ read: (String) throws(SettingFault) -> Element) throws(SettingFault) -> [Element] {
      var elements: [Element] = []
      for part in text.split(separator: ",") where !part.allSatisfy({ $0 == " " }) { elements.append(try read(String(part).trimmed)) }
      return elements
    }
    switch form {
    case .flag:
      switch text.lowercased() {
      case "true", "1", "yes", "y", "t": return .flag(true)
      case "false", "0", "no", "n", "f": return .flag(false)
      default: throw fault("is not true or false")
      }
    case .whole(let range): return .number(try number(range))
    case .mask: return .number(try number(0...Int64(UInt32.max)))
    case .duration: return .text(GoDuration.text(try duration(text)))
    case .texts: return .texts(try each { $0 })
    case .networks:
      return .texts(
        try each { (net: String) throws(SettingFault) in
          if IPPrefix(net) == nil, IPAddress(net) == nil { throw fault("holds \"\(net)\", which is not a network") }
          return net
        })
    case .portRange: return .ports(try ports(text))
    case .portRanges: return .portRanges(try each { (part: String) throws(SettingFault) in try ports(part) })
    case .tableRange: return .tableRange(try tables(text))
    case .tableRanges: return .tableRanges(try each { (part: String) throws(SettingFault) in try tables(part) })
    case .failsafePorts: return .failsafePorts(try each { (part: String) throws(SettingFault) in try failsafe(part) })
    case .timeouts:
      return .timeouts(
        try each { (part: String) throws(SettingFault) in
          let (name, timeout) = try pair(part)
          return .init(name: name, timeout: GoDuration.text(try duration(timeout)))
        })
    case .map:
      return .map(
        Dictionary(try each { (part: String) throws(SettingFault) in try pair(part) }, uniquingKeysWith: { $1 }))
    case .keyValues:
      _ = try each { (part: String) throws(SettingFault) in try pair(part) }
      return .text(text)
    case .word(let words):
      if let word = words.first(where: { $0.lowercased() == text.lowercased() }) { return .text(word) }
      throw fault("is none of \(words.joined(separator: ", "))")
    case .pattern:
      if (try? Regex(text)) == nil { throw fault("is not a regular expression") }
    case .interfaceName:
      if let why = NameRules.interfaceNameFault(text) { throw fault("is not the name of an interface: \(why)") }
    case .address:
      if IPAddress(text) == nil { throw fault("is not an IP address") }
    case .rate:
      if LogLimit(text) == nil { throw fault("is not a rate like 10/minute") }
    case .selector:
      do throws(SelectorError) { _ = try Selector(parsing: text) } catch { throw fault("is not a selector: \(error)") }
    case .text: break
    }
    try check(text)
    return .text(text)
  }

  private func fault(_ rule: String) -> SettingFault { SettingFault(description: rule) }

  /// What `none` means; nil where it is a word like any other, or no value.
  private var empty: FelixParameterValue? {
    switch form {
    case .flag: .flag(false)
    case .whole(let range) where range.contains(0): .number(0)
    case .mask: .number(0)
    case .duration: .text("0s")
    case .texts, .networks: .texts([])
    case .portRanges: .portRanges([])
    case .tableRanges: .tableRanges([])
    case .failsafePorts: .failsafePorts([])
    case .timeouts: .timeouts([])
    case .map: .map([:])
    case .pattern, .address, .rate, .selector, .keyValues, .portRange, .tableRange: .text("")
    case .text where field == "interfacePrefix": nil
    // Whoever has a default for it must hear that there is to be none.
    case .text: .text(usual.isEmpty ? "" : "none")
    case .word where field.hasPrefix("logSeverity"): .text("none")
    case .whole, .word, .interfaceName: nil
    }
  }

  /// Beyond the form.
  private func check(_ text: String) throws(SettingFault) {
    switch field {
    case "interfacePrefix":
      if text.lowercased() == "none" { throw fault("would leave no interface to workloads") }
      for prefix in text.split(separator: ",") {
        if let why = NameRules.interfaceNameFault(String(prefix).trimmed) { throw fault("is not a list of beginnings of interface names: \(why)") }
      }
    case "openstackRegion":
      if let why = NameRules.dnsLabelFault(text) { throw fault("is no name of a region: \(why)") }
    default: break
    }
  }

  private func duration(_ text: String) throws(SettingFault) -> Duration {
    let duration: Duration
    if let number = Double(text), number.isFinite, abs(number) < 1e9 {
      duration = .seconds(name.hasSuffix("Millis") ? number / 1000 : number)
    } else if let written = GoDuration.parse(text) {
      duration = written
    } else {
      throw fault("is not a duration: write seconds, or a number and a unit such as 90s")
    }
    if duration < .zero { throw fault("is negative") }
    if field == "reportingTTL", duration == .zero { throw fault("lets the status vanish at once") }
    return duration
  }

  private func pair(_ text: String) throws(SettingFault) -> (String, String) {
    let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map { String($0).trimmed }
    if parts.count == 2, !parts[0].isEmpty { return (parts[0], parts[1]) }
    throw fault("holds \"\(text)\", which is not of the form name=value")
  }

  private func ports(_ text: String) throws(SettingFault) -> FelixParameterValue.Ports {
    let ends = text.split(separator: ":", omittingEmptySubsequences: false).map { UInt16($0) }
    if ends.count == 1, let port = ends[0], port > 0 { return .one(port) }
    if ends.count == 2, let low = ends[0], let high = ends[1], low > 0, low <= high { return .range("\(low):\(high)") }
    throw fault("is not a port or a range of ports from 1 to 65535, lower end first")
  }

  private func tables(_ text: String) throws(SettingFault) -> ClosedRange<Int64> {
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { Int64($0) }
    if ends.count == 2, let low = ends[0], let high = ends[1], low >= 1, low <= high, high <= Int64(UInt32.max) { return low...high }
    throw fault("is not a range of routing tables like 1-250")
  }

  /// `22`, `tcp:22`, `tcp:10.0.0.0/8:22`, `tcp:[fd00::/8]:22`.
  private func failsafe(_ text: String) throws(SettingFault) -> FelixParameterValue.FailsafePort {
    let wrong = fault("holds \"\(text)\", which is not of the form port, protocol:port or protocol:network:port")
    var rest = Substring(text)
    let portText = rest.split(separator: ":").last.map { String($0) } ?? ""
    guard let port = UInt16(portText) else { throw wrong }
    rest = rest.dropLast(portText.count)
    if rest.isEmpty { return .init(ipProtocol: "tcp", port: port, net: "") }
    guard rest.last == ":" else { throw wrong }
    rest = rest.dropLast()
    let protocolText = rest.prefix { $0 != ":" }
    let ipProtocol = protocolText.lowercased()
    guard ["tcp", "udp", "sctp"].contains(ipProtocol) else { throw wrong }
    rest = rest.dropFirst(protocolText.count)
    if rest.isEmpty { return .init(ipProtocol: ipProtocol, port: port, net: "") }
    var net = rest.dropFirst()
    if net.hasPrefix("["), net.hasSuffix("]") { net = net.dropFirst().dropLast() }
    guard IPPrefix(String(net)) != nil || IPAddress(String(net)) != nil else { throw wrong }
    return .init(ipProtocol: ipProtocol, port: port, net: String(net))
  }
}

extension String {
  var trimmed: String {
    var text = Substring(self)
    while text.first?.isWhitespace == true { text.removeFirst() }
    while text.last?.isWhitespace == true { text.removeLast() }
    return String(text)
  }
}
