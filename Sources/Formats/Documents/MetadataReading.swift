/// What all kinds share: names, namespaces, labels, annotations, and what the system notes about an object.
///
/// Only what people decide about is part of `Metadata`. The bookkeeping (finalizers, owners, generations) belongs to controllers: it is
/// checked, and it stays in the document, so that a writer who does not mention it does not remove it.
import JSON
import Names
import Resources

extension FieldReader {
  func metadata() -> Metadata {
    let metadata = Metadata(
      name: string("name") ?? "", namespace: string("namespace").flatMap { $0.isEmpty ? nil : $0 }, uid: string("uid"),
      resourceVersion: string("resourceVersion").flatMap { $0.isEmpty ? nil : $0 }, creationTimestamp: string("creationTimestamp"),
      labels: labels("labels"), annotations: stringMap("annotations"))
    if findings.isStrict { checkBookkeeping() }
    // An API server's own notes.
    finish(hints: ["managedFields"])
    return metadata
  }

  func check(_ metadata: inout Metadata, of kind: Kind, _ defaultNamespace: String) {
    if metadata.name.isEmpty {
      if value("name")?.string != nil || value("name") == nil {
        findings.error(
          path("name"), nil, "is missing",
          fix: value("generateName") == nil
            ? "give the object a name" : "give the object a name: only a Kubernetes API server makes one of generateName")
      }
    } else if let fault = Self.nameFault(metadata.name, of: kind) {
      findings.error(path("name"), .string(metadata.name), "is not a name for kind \(kind.rawValue): \(fault)")
    }
    if kind.isNamespaced {
      let namespace = metadata.namespace ?? defaultNamespace
      if let fault = NameRules.dnsLabelFault(namespace) {
        findings.error(path("namespace"), .string(namespace), "is not a namespace: \(fault)")
      }
      metadata.namespace = namespace
    } else if let namespace = metadata.namespace {
      findings.error(path("namespace"), .string(namespace), "does not belong here: \(kind.rawValue) has no namespace", fix: "remove it")
      metadata.namespace = nil
    }
    if kind == .networkSet || kind == .globalNetworkSet, metadata.labels["projectcalico.org/namespace"] != nil {
      findings.error(path("labels").member("projectcalico.org/namespace"), nil, "is set by the system", fix: "remove it", atName: true)
    }
    var size = 0
    for (key, value) in metadata.annotations {
      size += key.utf8.count + value.utf8.count
      if let fault = NameRules.labelKeyFault(key.lowercased()) {
        findings.error(path("annotations").member(key), nil, "is not an annotation's key: \(fault)", atName: true)
      }
    }
    if size > 256 << 10 { findings.error(path("annotations"), nil, "take \(size) octets; at most \(256 << 10) are allowed") }
  }

  static func nameFault(_ name: String, of kind: Kind) -> String? {
    switch kind {
    case .tier: return NameRules.dnsLabelFault(name)
    case .clusterInformation, .ipamConfiguration, .kubeControllersConfiguration:
      return name == "default" ? nil : "there is only one object of this kind, and its name is default"
    case .bgpConfiguration:
      if name == "default" { return nil }
      guard name.hasPrefix("node.") else { return "it is neither default nor node. followed by a node's name" }
      return NameRules.dnsSubdomainFault(name.dropFirst(5)).map { "after node. must stand a node's name: \($0)" }
    case .networkPolicy, .globalNetworkPolicy, .stagedNetworkPolicy, .stagedGlobalNetworkPolicy:
      if kind.isNamespaced {
        // Policies made of a Kubernetes NetworkPolicy and of an OpenStack security group; the short form is the newer one.
        for prefix in ["knp.default.", "ossg.default.", "ossg."] where name.hasPrefix(prefix) {
          return NameRules.dnsSubdomainFault(name.dropFirst(prefix.count)) ?? NameRules.dnsSubdomainFault(name)
        }
      }
      if let fault = NameRules.dnsSubdomainFault(name) { return fault }
      let parts = name.split(separator: ".", omittingEmptySubsequences: false)
      if parts.count > 2 { return "it has \(parts.count) parts joined by dots; at most two are allowed" }
      return parts.lazy.compactMap { NameRules.dnsLabelFault($0) }.first
    default: return NameRules.dnsSubdomainFault(name)
    }
  }
}

extension FieldReader {
  /// The members of metadata that controllers keep.
  private func checkBookkeeping() {
    if let prefix = string("generateName"), let fault = NameRules.dnsSubdomainFault(prefix.hasSuffix("-") ? prefix + "x" : prefix) {
      findings.error(path("generateName"), .string(prefix), "cannot begin a name: \(fault)")
    }
    _ = integer("generation", in: 0...Int64.max)
    for name in ["deletionTimestamp", "creationTimestamp"] {
      if let value = value(name), let text = string(value, path(name)), UTCTime(text) == nil {
        findings.error(path(name), value, "is not a time", fix: "write it like 2026-01-31T12:00:00Z")
      }
    }
    _ = integer("deletionGracePeriodSeconds", in: 0...Int64.max)
    for (value, path) in array("finalizers") {
      guard let text = string(value, path) else { continue }
      if let fault = NameRules.labelKeyFault(text) { findings.error(path, value, "is not a finalizer: \(fault)") }
    }
    for (value, path) in array("ownerReferences") {
      guard let owner = reader(value, path) else { continue }
      for name in ["apiVersion", "kind", "name", "uid"] where owner.string(name)?.isEmpty ?? (owner.value(name) == nil) {
        findings.error(owner.path, nil, "has no \(name)", fix: "add it")
      }
      _ = owner.bool("controller")
      _ = owner.bool("blockOwnerDeletion")
      owner.finish()
    }
    _ = string("selfLink")
  }
}
