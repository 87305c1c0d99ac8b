# ONEDock: the name that the NIC of a container has on the host, for OpenNebula's network drivers.
#
# The drivers load every file of this folder (vnm/vnmmad.rb). For a hypervisor that they do not
# know they would ask virsh. Here the host's end of a NIC is called NIC/TARGET, always.
#
# Nothing in here may raise: it would end the network drivers of every hypervisor.
begin
    module VNMMAD

        module VNMNetwork

            # NicLXC where there is one (its parent differs between releases), else a Hash,
            # which is all that the drivers want of a NIC.
            onedock_parent = const_defined?(:NicLXC) ? NicLXC : Hash

            # A NIC of a container.
            NicONEDock = Class.new(onedock_parent) do
                # There is nothing to be asked: the name is in the NIC itself.
                def get_info(_vm)
                    nil
                end

                def get_tap(_vm)
                    self[:tap] = self[:target] if self[:target]

                    self
                end

                # Rates are set by the driver of the VM, at each start.
                def set_qos(_deploy_id)
                    nil
                end
            end

            HYPERVISORS['onedock'] = NicONEDock

        end

    end
rescue StandardError, ScriptError => e
    warn "onedock: its NICs are not known to the network drivers: #{e.message}"
end
