/// While a datastore is filled from somewhere else, a key in it says so: what is not complete must not be served. Half of the policies would
/// allow what the other half denies.

public enum TransferMarker {
  public static let path = "/calico/margay/v1/transfer"
}
