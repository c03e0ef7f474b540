/// Felix's settings: each is checked by its row of the table, and kept as written.
import Addresses
import JSON
import Names
import Resources
import Selectors

extension FieldReader {
  func parameters() -> FelixConfigurationSpec {
    var spec = FelixConfigurationSpec()
    for row in FelixParameter.all {
      // Stored objects have few of them, and every feed reads them: there, only what is present is asked for.
      guard findings.isStrict || object[row.field] != nil, let value = value(row.field), value.string != "" else { continue }
      let errors = findings.errors.count
      let parsed = read(row.form, value, path(row.field))
      if findings.errors.count > errors {
        // Half a list is something that nobody wrote. Writers never see an object with errors; of what is stored the rest counts.
        spec.faults[row.field] = findings.errors[errors].message
        continue
      }
      spec.values[row.field] = parsed
      switch row.effect {
      case .used: break
      case .later: findings.warning(path(row.field), nil, "is kept, but has no effect yet")
      case .never(let why): findings.warning(path(row.field), nil, "is kept, but has no effect here: \(why)")
      }
    }
    return spec
  }

  private func read(_ form: FelixParameter.Form, _ value: JSONValue, _ path: JSONPath) -> FelixParameterValue? {
    func elements<Element>(_ read: (JSONValue, JSONPath) -> Element?) -> [Element]? {
      guard let elements = value.array else {
        findings.error(path, value, "is not a list", fix: "begin its elements with '- '")
        return nil
      }
      return elements.enumerated().compactMap { read($0.element, path.element($0.offset)) }
    }
    switch form {
    case .flag:
      if let flag = value.bool { return .flag(flag) }
      findings.error(path, value, "is not true or false")
      return nil
    case .whole(let range): return integer(value, path, in: range).map { .number($0) }
    case .mask: return integer(value, path, in: 0...Int64(UInt32.max)).map { .number($0) }
    case .tableRange: return tables(value, path).map { .tableRange($0) }
    case .portRange: return ports(value, path).map { .ports($0) }
    case .texts: return elements { self.string($0, $1) }.map { .texts($0) }
    case .networks: return elements { self.prefix($0, $1, masked: false) == nil ? nil : $0.string }.map { .texts($0) }
    case .portRanges: return elements { self.ports($0, $1) }.map { .portRanges($0) }
    case .tableRanges: return elements { self.tables($0, $1) }.map { .tableRanges($0) }
    case .failsafePorts: return elements { self.failsafePort($0, $1) }.map { .failsafePorts($0) }
    case .timeouts: return elements { self.timeout($0, $1) }.map { .timeouts($0) }
    case .map:
      guard let reader = reader(value, path) else { return nil }
      let pairs = reader.object.members.compactMap { member in
        string(member.value, reader.path(member.name)).map { (member.name, $0) }
      }
      return .map(Dictionary(pairs, uniquingKeysWith: { $1 }))
    case .text, .duration, .rate, .selector, .pattern, .interfaceName, .address, .keyValues, .word:
      return text(form, value, path).map { .text($0) }
    }
  }

  private func text(_ form: FelixParameter.Form, _ value: JSONValue, _ path: JSONPath) -> String? {
    guard let text = string(value, path) else { return nil }
    func refuse(_ rule: String, fix: String? = nil) -> String? {
      findings.error(path, value, rule, fix: fix)
      return nil
    }
    switch form {
    case .word(let words):
      if let word = words.first(where: { $0.lowercased() == text.lowercased() }) { return word }
      return refuse("is none of \(words.joined(separator: ", "))", fix: nearest(text, among: words).map { "did you mean \($0)?" })
    case .duration:
      guard let duration = GoDuration.parse(text) else {
        return refuse(
          "is not a duration", fix: Int(text) == nil ? "write a number and a unit, such as 90s or 2m0s" : "add the unit: \(text)s")
      }
      return duration < .zero ? refuse("is negative", fix: "write 0s or more") : text
    case .pattern: return (try? Regex(text)) == nil ? refuse("is not a regular expression") : text
    case .interfaceName:
      return NameRules.interfaceNameFault(text).map { refuse("is not the name of an interface: \($0)") } ?? text
    case .address: return IPAddress(text) == nil ? refuse("is not an IP address") : text
    case .rate:
      return LogLimit(text) == nil ? refuse("is not a rate", fix: "write it like 10/second, 100/minute, 5/hour or 1/day") : text
    case .selector:
      do throws(SelectorError) {
        _ = try Selector(parsing: text)
        return text
      } catch {
        return refuse("is not a selector: \(error)")
      }
    case .keyValues:
      let pairs = text.split(separator: ",", omittingEmptySubsequences: false)
      let isGood = pairs.allSatisfy {
        $0.isEmpty || $0.split(separator: "=", omittingEmptySubsequences: false).count == 2 && $0.first != "="
      }
      return isGood ? text : refuse("is not a list of name=value with commas between")
    default: return text
    }
  }

  private func ports(_ value: JSONValue, _ path: JSONPath) -> FelixParameterValue.Ports? {
    if value.integer != nil { return integer(value, path, in: 1...65535).map { .one(UInt16($0)) } }
    if let text = value.string, case .range? = FieldReader.port(text) { return .range(text) }
    findings.error(path, value, "is not a port or a range of ports from 1 to 65535, lower end first", fix: "write it like 32768:65535")
    return nil
  }

  private func tables(_ value: JSONValue, _ path: JSONPath) -> ClosedRange<Int64>? {
    guard let reader = reader(value, path) else { return nil }
    let range: ClosedRange<Int64> = 1...Int64(UInt32.max)
    let min = reader.required("min").flatMap { reader.integer($0, reader.path("min"), in: range) }
    let max = reader.required("max").flatMap { reader.integer($0, reader.path("max"), in: range) }
    reader.finish()
    guard let min, let max else { return nil }
    if min > max { findings.error(path, nil, "is empty: min \(min) is above max \(max)") }
    return min <= max ? min...max : nil
  }

  private func failsafePort(_ value: JSONValue, _ path: JSONPath) -> FelixParameterValue.FailsafePort? {
    guard let reader = reader(value, path) else { return nil }
    let ipProtocol = reader.string("protocol") ?? ""
    if !ipProtocol.isEmpty, !["tcp", "udp", "sctp"].contains(ipProtocol.lowercased()) {
      findings.error(reader.path("protocol"), .string(ipProtocol), "is none of tcp, udp, sctp")
    }
    let port = reader.required("port").flatMap { reader.integer($0, reader.path("port"), in: 0...65535) }
    let net = reader.string("net") ?? ""
    if !net.isEmpty { _ = prefix(.string(net), reader.path("net"), masked: false) }
    reader.finish()
    return port.map { .init(ipProtocol: ipProtocol, port: UInt16($0), net: net) }
  }

  private func timeout(_ value: JSONValue, _ path: JSONPath) -> FelixParameterValue.Timeout? {
    guard let reader = reader(value, path) else { return nil }
    let name = reader.required("name").flatMap { reader.string($0, reader.path("name")) }
    let timeout = reader.required("timeout").flatMap { reader.text(.duration, $0, reader.path("timeout")) }
    reader.finish()
    guard let name, let timeout else { return nil }
    return .init(name: name, timeout: timeout)
  }
}

extension ResourceCodec {
  package static func json(_ value: FelixParameterValue) -> JSONValue {
    func ports(_ ports: FelixParameterValue.Ports) -> JSONValue {
      switch ports {
      case .one(let port): .integer(Int64(port))
      case .range(let text): .string(text)
      }
    }
    func range(_ range: ClosedRange<Int64>) -> JSONValue { ["min": .integer(range.lowerBound), "max": .integer(range.upperBound)] }
    switch value {
    case .flag(let flag): return .bool(flag)
    case .number(let number): return .integer(number)
    case .text(let text): return .string(text)
    case .texts(let texts): return .array(texts.map { .string($0) })
    case .map(let values): return .object(JSONObject(values.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) }))
    case .ports(let one): return ports(one)
    case .portRanges(let several): return .array(several.map(ports))
    case .tableRange(let one): return range(one)
    case .tableRanges(let several): return .array(several.map(range))
    case .timeouts(let timeouts): return .array(timeouts.map { ["name": .string($0.name), "timeout": .string($0.timeout)] })
    case .failsafePorts(let failsafes):
      return .array(
        failsafes.map { failsafe in
          var fields = JSONObject()
          fields["protocol"] = text(failsafe.ipProtocol)
          fields["port"] = .integer(Int64(failsafe.port))
          fields["net"] = text(failsafe.net)
          return .object(fields)
        })
    }
  }
}
