/// JSON, selectors, and what is read from one short text.
import AddressAssignment
import Addresses
import BGPMessages
import Datastore
import Glibc
import JSON
import Names
import Resources
import Selectors

func checkJSON(_ octets: [UInt8]) throws(Violation) {
  let plain = Result { () throws(JSONError) in try JSONValue(parsing: octets) }
  let positioned = Result { () throws(JSONError) in try JSONValue.parsePositioned(octets) }
  switch (plain, positioned) {
  case (.failure(let one), .failure(let other)):
    try claim(one == other, "the plain reader says \(one), the positioned one \(other)")
  case (.success(let value), .success(let (same, _))):
    try claim(value.bytes == same.bytes, "the two readers differ: \(value.text()) and \(same.text())")
    for isPretty in [false, true] {
      let text = value.bytes(pretty: isPretty)
      guard let again = try? JSONValue(parsing: text) else {
        throw Violation("does not read what it wrote: \(value.text(pretty: isPretty))")
      }
      try claim(again.bytes == value.bytes, "reads \(again.text()) where it wrote \(value.text())")
    }
  case (.success(let value), .failure(let error)): throw Violation("only the positioned reader refuses \(value.text()): \(error)")
  case (.failure(let error), .success): throw Violation("only the plain reader refuses: \(error)")
  }
}

/// One selector, or two on two lines, which are then also compared.
func checkSelectors(_ octets: [UInt8]) throws(Violation) {
  guard let text = String(validating: octets, as: UTF8.self) else { return }
  var selectors: [Selector] = []
  for line in text.split(separator: "\n", maxSplits: 1) {
    guard let selector = try? Selector(parsing: String(line)) else { continue }
    selectors.append(selector)
    guard let again = try? Selector(parsing: selector.canonical) else { throw Violation("cannot read its canonical text \(selector)") }
    try claim(isSame(again.canonical, selector.canonical), "the canonical text \(selector) becomes \(again)")
    try claim(again.uniqueID == selector.uniqueID, "two identifiers for \(selector)")
    let restrictions = selector.restrictions
    let negation = !selector
    let prefixed = selector.prefixingLabels("pcns.")
    for labels in assignments(selector) {
      let matches = selector.matches(labels)
      try claim(again.matches(labels) == matches, "\(selector) and its canonical text differ about \(labels)")
      try claim(negation.matches(labels) != matches, "\(negation) agrees with \(selector) about \(labels)")
      try claim(
        prefixed.matches(Dictionary(uniqueKeysWithValues: labels.map { ("pcns." + $0.key, $0.value) })) == matches,
        "\(prefixed) and \(selector) differ about \(labels)")
      guard matches else { continue }
      for (name, restriction) in restrictions {
        let value = labels[name]
        try claim(
          !(restriction.mustBePresent && value == nil) && !(restriction.mustBeAbsent && value != nil),
          "\(selector) matches \(labels) against \(restriction) of \(name)")
        if let value, let values = restriction.values {
          try claim(values.contains(value), "\(selector) matches \(labels), but \(name) must be one of \(values)")
        }
      }
    }
  }
  if selectors.count == 2 {
    try claim(
      (selectors[0] == selectors[1]) == (selectors[0].uniqueID == selectors[1].uniqueID),
      "equal selectors have equal identifiers, others have not: \(selectors)")
    let both = Selector.and(selectors)
    for labels in assignments(both) {
      try claim(both.matches(labels) == selectors.allSatisfy { $0.matches(labels) }, "\(both) is not both of \(selectors) for \(labels)")
    }
  }
}

/// Sixteen sets of labels, of the names and values that the selector speaks of.
private func assignments(_ selector: Selector) -> [[String: String]] {
  let names = selector.labels.sorted().prefix(8)
  var values: [String] = ["", "x"]
  // Whatever stands in quotes, in either kind.
  for quote: Character in ["\"", "'"] {
    let parts = selector.canonical.split(separator: quote, maxSplits: 40, omittingEmptySubsequences: false)
    values += parts.enumerated().filter { $0.offset % 2 == 1 }.map { String($0.element) }
  }
  var random: UInt64 = 0x9e37_79b9_7f4a_7c15
  return (0..<16).map { _ in
    var labels: [String: String] = [:]
    for name in names {
      random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      let choice = Int(random >> 40) % (values.count + 1)
      if choice < values.count { labels[name] = values[choice] }
    }
    return labels
  }
}

func checkTexts(_ octets: [UInt8]) throws(Violation) {
  guard let text = String(validating: octets, as: UTF8.self) else {
    try checkEncodings(octets)
    return
  }
  try checkAddresses(text)
  try checkKeys(text)
  try checkEncodings(octets)

  if let time = UTCTime(text) {
    try claim(UTCTime(time.description) == time, "\(text) is \(time), and that is \(String(describing: UTCTime(time.description)))")
  }
  if let number = ASNumber(text) { try claim(ASNumber(number.description) == number, "AS \(text) prints as \(number)") }
  if let id = RouterID(text) { try claim(isSame(id.description, text), "router id \(text) prints as \(id)") }
  if let community = Community(text) { try claim(Community(community.description) == community, "\(text) prints as \(community)") }
  if let community = LargeCommunity(text) {
    try claim(LargeCommunity(community.description) == community, "\(text) prints as \(community)")
  }
  if let known = NetworkProtocol(text) { try claim(NetworkProtocol(known.description) == known, "protocol \(text) prints as \(known)") }

  // Rules answer nil only for what the rule's own words allow.
  let plain = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._".utf8)
  let isPlain = text.utf8.allSatisfy(plain.contains)
  if NameRules.dnsSubdomainFault(text) == nil { try claim(isPlain && !text.isEmpty && text.utf8.count <= 253, "a DNS name: \(text)") }
  if NameRules.dnsLabelFault(text) == nil { try claim(NameRules.dnsSubdomainFault(text) == nil, "a label, but no name: \(text)") }
  if NameRules.interfaceNameFault(text) == nil { try claim(isPlain && (1...15).contains(text.utf8.count), "an interface: \(text)") }
  if NameRules.labelValueFault(text) == nil { try claim(isPlain && text.utf8.count <= 63, "a label's value: \(text)") }
  if NameRules.portNameFault(text) == nil { try claim(isPlain && (1...128).contains(text.utf8.count), "a port's name: \(text)") }
  _ = NameRules.labelKeyFault(text)
}

private func checkAddresses(_ text: String) throws(Violation) {
  // The C library is the second reader; it would stop at a zero octet.
  if !text.utf8.contains(0) {
    var four = in_addr()
    let isFour = unsafe inet_pton(AF_INET, text, &four) == 1
    try claim((IPv4Address(text)?.rawValue.bigEndian == four.s_addr) == isFour, "IPv4 \(text): the C library says \(isFour)")
    if !isFour { try claim(IPv4Address(text) == nil, "IPv4 \(text): the C library refuses it") }
    var six = in6_addr()
    let isSix = unsafe inet_pton(AF_INET6, text, &six) == 1
    let theirs = unsafe withUnsafeBytes(of: &six) { unsafe Array($0) }
    try claim((IPv6Address(text) != nil) == isSix, "IPv6 \(text): the C library says \(isSix)")
    if isSix { try claim(IPv6Address(text)?.octets == theirs, "IPv6 \(text): the C library reads \(theirs)") }
  }
  if let address = IPAddress(text) {
    try claim(IPAddress(address.description) == address, "\(text) prints as \(address)")
    try claim(IPAddress(octets: address.octets) == address, "\(address) is not its octets")
    try claim(address.hostPrefix.contains(address), "\(address) is not in its own prefix")
  }
  if let address = InterfaceAddress(text) {
    try claim(InterfaceAddress(address.description) == address, "\(text) prints as \(address)")
    let prefix = address.prefix
    try claim(IPPrefix(text) == prefix && IPPrefix(prefix.description) == prefix, "\(text) is in \(prefix)")
    try claim(prefix.contains(address.address) && prefix.contains(prefix), "\(prefix) does not contain \(address)")
    try claim(AddressKeys.cidr(keyPart: "\(prefix.address)-\(prefix.length)") == prefix, "the key part of \(prefix)")
  }
  if let prefix = AddressKeys.cidr(keyPart: text) {
    try claim(AddressKeys.cidr(keyPart: "\(prefix.address)-\(prefix.length)") == prefix, "key part \(text) is \(prefix)")
  }
  if let mac = MACAddress(text) {
    try claim(MACAddress(mac.description) == mac && MACAddress(octets: mac.octets) == mac, "\(text) is \(mac)")
  }
}

private func checkKeys(_ text: String) throws(Violation) {
  let escaped = KeyPart.escape(text)
  try claim(!escaped.utf8.contains(UInt8(ascii: "/")), "an escaped part has a slash: \(escaped)")
  try claim(isSame(KeyPart.unescape(escaped), text), "\(text) escapes to \(escaped), which is \(KeyPart.unescape(escaped))")
  if let key = ResourceKey(path: text) { try claim(ResourceKey(path: key.path) == key, "\(text) is \(key), whose path is \(key.path)") }
  for kind in [Kind.networkPolicy, .node] where !text.isEmpty {
    let key = ResourceKey(kind, namespace: text, name: text)
    guard let again = ResourceKey(path: key.path) else { throw Violation("\(key) has the path \(key.path), which is none") }
    try claim(isSame(again.name, key.name) && isSame(again.namespace ?? "", key.namespace ?? ""), "\(key) comes back as \(again)")
  }
  if let name = try? WorkloadEndpointName(parsing: text) {
    try claim(isSame(name.description, text), "the name \(text) prints as \(name)")
    try claim(name.matches(node: name.node, orchestrator: name.orchestrator, workload: name.workload), "\(name) is not its own fields")
    let prefix = WorkloadEndpointName.prefix(node: name.node, orchestrator: name.orchestrator, workload: name.workload)
    try claim(text.utf8.starts(with: prefix.utf8), "\(text) does not begin with \(prefix)")
  }
}

private func checkEncodings(_ octets: [UInt8]) throws(Violation) {
  try claim(Base64.octets(Base64.text(octets)) == octets, "base64 of \(octets)")
  try claim(Base64.octets(Base64.urlText(octets)) == octets, "base64url of \(octets)")
  if let text = String(validating: octets, as: UTF8.self), let decoded = Base64.octets(text) {
    try claim(Base64.octets(Base64.text(decoded)) == decoded, "base64 text \(text)")
  }
}
