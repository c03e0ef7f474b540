/// The resources that BGP reads, as the feed tells them.
///
/// A document with a part that cannot be read leaves its last good version in force: a session without the field that is broken would be
/// another session than anybody asked for. Without a good version, what can be read is used. Both are told in `problems`.

import Datastore
import Documents
import FelixSettings
import Resources

struct FollowedResources {
  static let kinds: [Kind] = [.node, .bgpPeer, .bgpConfiguration, .ipPool, .felixConfiguration]

  private(set) var resources = BGPResources()
  /// Everything that existed at the first list is in `resources`.
  private(set) var isInSync = false
  private(set) var datastoreProblem: String?
  /// No matter of sessions: where health is served, and how status is reported.
  private(set) var felix: StoredSettings
  private var faults: [ResourceKey: String] = [:]

  /// By object.
  var problems: [String] { faults.sorted { $0.key < $1.key }.map(\.value) }

  init(node: String) { felix = StoredSettings(node: node) }

  mutating func take(_ events: [FeedEvent]) {
    for event in events {
      if case .resource(let key, let stored) = event { felix.note(key, stored?.resource) }
      switch event {
      // What is wrong with Felix's settings is Felix's to tell.
      case .resource(let key, _) where key.kind == .felixConfiguration: break
      case .resource(let key, nil):
        faults[key] = nil
        remove(key)
      case .resource(let key, let stored?):
        if let fault = Self.fault(of: stored) {
          let isKnown = isPresent(key)
          faults[key] = "\(key): \(fault); " + (isKnown ? "the last good version stays in force" : "the rest of it is used")
          if isKnown { continue }
        } else {
          faults[key] = nil
        }
        put(stored.resource)
      case .unreadable(let key, let reason):
        faults[key] = isPresent(key) ? "\(reason); the last good version stays in force" : reason
      case .inSync: isInSync = true
      case .connection(let problem): datastoreProblem = problem
      case .raw, .revision: break
      }
    }
  }

  private static func fault(of stored: StoredResource) -> String? {
    do throws(DocumentError) {
      return try ResourceCodec.decodeReporting(kind: stored.resource.key.kind, value: stored.document).faults.first?.description
    } catch {
      return error.description
    }
  }

  private func isPresent(_ key: ResourceKey) -> Bool {
    switch key.kind {
    case .node: resources.nodes[key.name] != nil
    case .bgpPeer: resources.peers[key.name] != nil
    case .bgpConfiguration: resources.configurations[key.name] != nil
    case .ipPool: resources.pools[key.name] != nil
    default: false
    }
  }

  private mutating func remove(_ key: ResourceKey) {
    switch key.kind {
    case .node: resources.nodes[key.name] = nil
    case .bgpPeer: resources.peers[key.name] = nil
    case .bgpConfiguration: resources.configurations[key.name] = nil
    case .ipPool: resources.pools[key.name] = nil
    default: break
    }
  }

  private mutating func put(_ resource: Resource) {
    let name = resource.metadata.name
    switch resource.spec {
    case .node(let spec): resources.nodes[name] = .init(spec: spec, labels: resource.metadata.labels)
    case .bgpPeer(let spec): resources.peers[name] = spec
    case .bgpConfiguration(let spec): resources.configurations[name] = spec
    case .ipPool(let spec): resources.pools[name] = spec
    default: break
    }
  }
}
