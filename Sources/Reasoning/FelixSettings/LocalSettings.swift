/// What this host says itself: the configuration file, and the environment.
public import Resources

extension SettingsLayer {
  /// Variables that begin with `FELIX_`, in any case of letters. Empty ones count as not set: manifests set them all.
  public init(environment: [String: String]) {
    self.init(.environment)
    var seen: [String: String] = [:]
    for (variable, text) in environment.sorted(by: { $0.key < $1.key }) where !text.trimmed.isEmpty {
      guard variable.lowercased().hasPrefix("felix_") else { continue }
      let name = String(variable.dropFirst(6))
      if let first = seen.updateValue(variable, forKey: name.lowercased()) {
        faults.append(Fault(field: FelixParameter.known(as: name)?.field, name: variable, reason: "says it again: \(first) counts"))
        continue
      }
      take(variable, name, text, isFile: false)
    }
  }

  /// A file of `Name = value` lines, in sections whose names do not matter; `#` and `;` begin comments. Calico's is
  /// `/etc/calico/felix.cfg`, with one section `[global]`.
  public init(file path: String, text: String) {
    self.init(.file(path))
    var lines: [String: Int] = [:]
    // By octets: to Swift's characters, CR LF is one.
    for (index, bytes) in text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      let line = String(Substring(bytes)).trimmed
      let number = index + 1
      if line.isEmpty || line.hasPrefix("#") || line.hasPrefix(";") || line.hasPrefix("[") && line.hasSuffix("]") { continue }
      guard let sign = line.firstIndex(where: { $0 == "=" || $0 == ":" }), sign > line.startIndex else {
        faults.append(Fault(field: nil, name: "line \(number)", reason: "is not of the form Name = value"))
        continue
      }
      let name = String(line[..<sign]).trimmed
      var value = String(line[line.index(after: sign)...]).trimmed
      if value.count >= 2, let quote = value.first, quote == "\"" || quote == "'", value.last == quote { value = String(value.dropFirst().dropLast()) }
      if value.isEmpty { continue }
      if let first = lines.updateValue(number, forKey: name.lowercased()) {
        // The last one counts, as in Calico.
        let field = FelixParameter.known(as: name)?.field
        faults.append(Fault(field: field, name: name, reason: "stands in line \(first) and in line \(number): the last one counts"))
        field.map { values[$0] = nil }
      }
      take(name, name, value, isFile: true)
    }
  }

  private mutating func take(_ called: String, _ name: String, _ text: String, isFile: Bool) {
    guard let parameter = FelixParameter.known(as: name), parameter.field != "nodeSelector" else {
      switch FelixParameter.local(name) {
      case .elsewhere(let why) where isFile: faults.append(Fault(field: nil, name: called, reason: "is not read from a file: \(why)"))
      case .elsewhere: break
      case .never(let why): notes.append("\(called) has no effect here: \(why)")
      case nil:
        let hint = FelixParameter.nearest(name).map { "; did you mean \(isFile ? $0 : "FELIX_\($0.uppercased())")?" } ?? ""
        faults.append(Fault(field: nil, name: called, reason: "is no parameter of Felix\(hint)"))
      }
      return
    }
    do throws(SettingFault) {
      values[parameter.field] = try parameter.value(of: text)
    } catch {
      faults.append(Fault(field: parameter.field, name: called, reason: "\"\(text)\" \(error)"))
    }
  }
}
